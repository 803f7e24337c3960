//! What is said to `org.freedesktop.systemd1`.

use std::time::Duration;

use futures_util::StreamExt;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, Variant};

use super::{Property, Scope, SystemdError};

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long a unit may take to start (runc's).
const DEADLINE: Duration = Duration::from_secs(30);

/// What can go wrong in a conversation.
#[derive(Debug)]
pub(super) enum Trouble {
    Bus(zbus::Error),
    Refused {
        what: &'static str,
        unit: String,
        why: String,
    },
}

impl From<zbus::Error> for Trouble {
    fn from(error: zbus::Error) -> Trouble {
        Trouble::Bus(error)
    }
}

/// Connects and has one conversation.
pub(super) fn run<F>(
    user: bool,
    conversation: impl FnOnce(Connection) -> F,
) -> Result<(), SystemdError>
where
    F: Future<Output = Result<(), Trouble>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SystemdError::Ask)?;
    runtime.block_on(async {
        let connected = tokio::time::timeout(DEADLINE, connect(user)).await;
        let connection = connected
            .map_err(|_| SystemdError::Connect("timed out".into()))?
            .map_err(|e| SystemdError::Connect(e.to_string()))?;
        match tokio::time::timeout(DEADLINE, conversation(connection)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Trouble::Bus(e))) => Err(SystemdError::Connect(e.to_string())),
            Ok(Err(Trouble::Refused { what, unit, why })) => {
                Err(SystemdError::Refused { what, unit, why })
            }
            Err(_) => Err(SystemdError::Connect("timed out".into())),
        }
    })
}

async fn connect(user: bool) -> zbus::Result<Connection> {
    if user {
        let builder = Builder::session();
        return match outer_uid() {
            // In a user namespace the bus knows us by the number we have outside.
            Some(uid) => builder.user_id(uid).build().await,
            None => builder.build().await,
        };
    }
    Builder::system().build().await
}

/// Our user id outside of the user namespace that we are in.
fn outer_uid() -> Option<u32> {
    let own = rustix::process::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = own.checked_sub(inside).filter(|offset| *offset < size)?;
        outside.checked_add(offset)
    })
}

type Talk = std::pin::Pin<Box<dyn Future<Output = Result<(), Trouble>>>>;

/// Starts the scope around a process, and waits until it is there.
pub(super) fn start(scope: &Scope, pid: u32) -> impl FnOnce(Connection) -> Talk {
    let scope = scope.clone();
    move |connection| {
        Box::pin(async move {
            let mut jobs = Jobs::listen(&connection).await?;
            let job = match start_transient(&connection, &scope, pid).await {
                // One that has ended unnoticed, or failed (out of memory), is in the way until it is told to go.
                Err(zbus::Error::MethodError(name, ..)) if is_called(&name, "UnitExists") => {
                    end(&connection, &mut jobs, &scope).await?;
                    start_transient(&connection, &scope, pid).await
                }
                started => started,
            };
            let job = job.map_err(|error| refusal("start", &scope, error))?;
            match jobs.result(&job).await?.as_str() {
                "done" => Ok(()),
                other => Err(refused("start", &scope, other)),
            }
        })
    }
}

/// Ends the scope, whatever it is still thought to be doing.
pub(super) fn stop(scope: &Scope) -> impl FnOnce(Connection) -> Talk {
    let scope = scope.clone();
    move |connection| {
        Box::pin(async move {
            let mut jobs = Jobs::listen(&connection).await?;
            end(&connection, &mut jobs, &scope).await
        })
    }
}

async fn end(connection: &Connection, jobs: &mut Jobs, scope: &Scope) -> Result<(), Trouble> {
    let unit = scope.unit.as_str();
    match call(connection, "StopUnit", &(unit, "replace")).await {
        Ok(reply) => {
            let job: OwnedObjectPath = reply.body().deserialize()?;
            jobs.result(&job).await?;
        }
        Err(zbus::Error::MethodError(name, ..)) if is_called(&name, "NoSuchUnit") => {}
        Err(error) => return Err(refusal("stop", scope, error)),
    }
    // There is nothing to reset unless it failed.
    let _ = call(connection, "ResetFailedUnit", &(unit,)).await;
    Ok(())
}

/// What systemd says of jobs that are over.
struct Jobs(MessageStream);

impl Jobs {
    /// Before a job is asked for, or its end could be missed.
    async fn listen(connection: &Connection) -> zbus::Result<Jobs> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()?;
        let jobs = MessageStream::for_match_rule(rule, connection, None).await?;
        // Without subscribers nothing is announced; another subscription of ours does no harm.
        let _ = call(connection, "Subscribe", &()).await;
        Ok(Jobs(jobs))
    }

    /// Waits for the end of a job; `done` is the good one.
    async fn result(&mut self, job: &OwnedObjectPath) -> Result<String, Trouble> {
        while let Some(message) = self.0.next().await {
            let body = message?.body();
            let (_, removed, _, result): (u32, OwnedObjectPath, String, String) =
                body.deserialize()?;
            if removed == *job {
                return Ok(result);
            }
        }
        Ok("systemd has hung up".to_owned())
    }
}

fn is_called(name: &zbus::names::OwnedErrorName, end: &str) -> bool {
    name.as_str().rsplit('.').next() == Some(end)
}

async fn start_transient(
    connection: &Connection,
    scope: &Scope,
    pid: u32,
) -> zbus::Result<OwnedObjectPath> {
    let mut properties = vec![
        ("Slice", Variant::from(scope.slice.as_str())),
        ("PIDs", Variant::from(vec![pid])),
    ];
    properties.extend(variants(&scope.properties));
    let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
    let body = (scope.unit.as_str(), "replace", properties, others);
    let reply = call(connection, "StartTransientUnit", &body).await?;
    reply.body().deserialize()
}

/// Changes properties until the unit is gone.
pub(super) fn change(
    scope: &Scope,
    properties: &[(String, Property)],
) -> impl FnOnce(Connection) -> Talk {
    let (scope, properties) = (scope.clone(), properties.to_vec());
    move |connection| {
        Box::pin(async move {
            let body = (scope.unit.as_str(), true, variants(&properties));
            let changed = call(&connection, "SetUnitProperties", &body).await;
            changed
                .map(drop)
                .map_err(|error| refusal("change", &scope, error))
        })
    }
}

async fn call<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<zbus::Message>
where
    B: serde::Serialize + zbus::DynamicType,
{
    connection
        .call_method(Some(SERVICE), PATH, Some(MANAGER), method, body)
        .await
}

fn variants(properties: &[(String, Property)]) -> Vec<(&str, Variant<'_>)> {
    properties
        .iter()
        .map(|(name, value)| (name.as_str(), variant(value)))
        .collect()
}

fn variant(value: &Property) -> Variant<'_> {
    match value {
        Property::Text(text) => Variant::from(text.as_str()),
        Property::Flag(on) => Variant::from(*on),
        Property::Number(number) => Variant::from(*number),
        Property::Signed(number) => Variant::from(*number),
        Property::Bits(bytes) => Variant::from(bytes.clone()),
        Property::Texts(list) => Variant::from(list.clone()),
        Property::Pairs(list) => Variant::from(list.clone()),
    }
}

fn refusal(what: &'static str, scope: &Scope, error: zbus::Error) -> Trouble {
    match error {
        zbus::Error::MethodError(..) => refused(what, scope, &words(&error)),
        other => Trouble::Bus(other),
    }
}

fn refused(what: &'static str, scope: &Scope, why: &str) -> Trouble {
    Trouble::Refused {
        what,
        unit: scope.unit.clone(),
        why: why.to_owned(),
    }
}

/// The explanation without the error's name.
fn words(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(text), _) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_the_types_that_units_know() {
        for (property, signature) in [
            (Property::Text("x".into()), "s"),
            (Property::Flag(true), "b"),
            (Property::Number(1), "t"),
            (Property::Signed(15), "i"),
            (Property::Bits(vec![3]), "ay"),
            (Property::Texts(vec!["x".into()]), "as"),
            (Property::Pairs(vec![("a".into(), "b".into())]), "a(ss)"),
        ] {
            assert_eq!(
                variant(&property).value_signature().to_string(),
                signature,
                "{property:?}"
            );
        }
    }
}
