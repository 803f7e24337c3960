//! firewalld, where it guards this host: our bridges are in its zone `docker`, as dockerd's are, and its reloads are noticed.
//!
//! firewalld rejects what is forwarded unless the zones of both interfaces allow it, whatever other tables say; a reload may throw
//! away what others put into iptables, and forgets interfaces that were put into zones while it ran.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zbus::{Connection, MatchRule, Message, MessageStream, Variant};

use crate::error::{NetworkError, Step};

/// firewalld's name on the bus, and the interface of its methods.
const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const CONFIG_PATH: &str = "/org/fedoraproject/FirewallD1/config";

/// The bus itself.
const BUS: &str = "org.freedesktop.DBus";

/// Zone of our bridges.
const ZONE: &str = "docker";

/// Policy that lets traffic from anywhere pass to the zone, where our own rules decide (moby 28).
const POLICY: &str = "docker-forwarding";

/// Longest time one answer may take: a reload of many rules takes seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a start waits for our bridges to be in their zone; they will be, later.
const START: Duration = Duration::from_secs(5);

/// A thread that talks to firewalld. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Firewalld {
    requests: UnboundedSender<Request>,
}

/// What the thread asks of its owner.
pub(crate) struct Owner {
    /// Our bridges.
    pub(crate) bridges: Box<dyn Fn() -> Vec<String> + Send>,
    /// Called after firewalld threw rules away, maybe ours among them.
    pub(crate) reloaded: Box<dyn Fn() + Send>,
}

struct Request {
    what: Change,
    done: mpsc::Sender<()>,
}

enum Change {
    /// Nothing: done when everything before is.
    Settle,
    Add(String),
    Remove(String),
}

impl Firewalld {
    /// Starts to talk to the firewalld that guards the calling thread's network namespace, now or later; none on a host without
    /// a system bus. Waits until our bridges are in their zone.
    pub(crate) fn start(owner: Owner) -> Result<Option<Firewalld>, NetworkError> {
        if !has_system_bus() {
            return Ok(None);
        }
        let (requests, received) = unbounded_channel();
        thread::Builder::new()
            .name("firewalld".into())
            .stack_size(512 * 1024)
            .spawn(move || run(received, &owner))
            .step(|| "start the thread firewalld".into())?;
        let firewalld = Firewalld { requests };
        firewalld.ask(Change::Settle, START);
        Ok(Some(firewalld))
    }

    /// Puts a bridge into the zone. A firewalld that is not there or refuses is none of the network's business: it is logged.
    pub(crate) fn add(&self, bridge: &str) {
        self.ask(Change::Add(bridge.to_owned()), PATIENCE);
    }

    /// Takes a bridge out of the zone.
    pub(crate) fn remove(&self, bridge: &str) {
        self.ask(Change::Remove(bridge.to_owned()), PATIENCE);
    }

    fn ask(&self, what: Change, limit: Duration) {
        let (done, answered) = mpsc::channel();
        if self.requests.send(Request { what, done }).is_ok() {
            // A thread that ended, and one that hangs, are nothing to wait for.
            let _ = answered.recv_timeout(limit);
        }
    }
}

fn has_system_bus() -> bool {
    std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some()
        || Path::new("/run/dbus/system_bus_socket").exists()
}

fn run(requests: UnboundedReceiver<Request>, owner: &Owner) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve(requests, owner)),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "no firewalld is looked for");
    }
}

async fn serve(mut requests: UnboundedReceiver<Request>, owner: &Owner) -> zbus::Result<()> {
    let bus = Bus::connect().await?;
    let mut reloads = bus.signals(NAME, PATH, NAME, "Reloaded", None).await?;
    let mut owners = bus
        .signals(
            BUS,
            "/org/freedesktop/DBus",
            BUS,
            "NameOwnerChanged",
            Some(NAME),
        )
        .await?;
    bus.set_up(owner).await;
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return Ok(()) };
                bus.change(&request.what).await;
                // Nobody waits any more: nobody is told.
                let _ = request.done.send(());
            }
            signal = reloads.next() => {
                signal.ok_or(zbus::Error::InvalidReply)??;
                bus.add_all(owner).await;
                (owner.reloaded)();
            }
            signal = owners.next() => {
                signal.ok_or(zbus::Error::InvalidReply)??;
                bus.set_up(owner).await;
                (owner.reloaded)();
            }
        }
    }
}

/// A connection to the system bus.
struct Bus {
    connection: Connection,
}

impl Bus {
    async fn connect() -> zbus::Result<Bus> {
        let connection = zbus::connection::Builder::system()
            .method_timeout(PATIENCE)
            .build()
            .await?;
        Ok(Bus { connection })
    }

    async fn signals(
        &self,
        sender: &'static str,
        path: &'static str,
        interface: &'static str,
        member: &'static str,
        first: Option<&'static str>,
    ) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(sender)
            .path(path)
            .interface(interface)
            .member(member);
        let rule = match first {
            Some(first) => rule.arg(0, first),
            None => rule,
        };
        MessageStream::for_match_rule(rule.build()?, &self.connection, None).await
    }

    /// Makes zone and policy where they are missing, and puts our bridges into the zone; nothing without a firewalld of ours.
    async fn set_up(&self, owner: &Owner) {
        if !self.guards_us().await {
            return;
        }
        if let Err(error) = self.ensure_zone().await {
            tracing::warn!(%error, "firewalld has no zone {ZONE}: it may reject traffic of containers");
        }
        self.add_all(owner).await;
    }

    /// Whether a firewalld is there, and in our network namespace: one that guards another has nothing to do with our bridges.
    async fn guards_us(&self) -> bool {
        let Ok(answer) = self.bus_call("GetConnectionUnixProcessID", NAME).await else {
            return false;
        };
        let Ok(pid) = answer.body().deserialize::<u32>() else {
            return false;
        };
        let inode = |path: String| Path::new(&path).metadata().ok().map(|file| file.ino());
        let own = inode("/proc/thread-self/ns/net".into());
        let its = inode(format!("/proc/{pid}/ns/net"));
        its.is_none() || its == own
    }

    async fn ensure_zone(&self) -> zbus::Result<()> {
        let zones = self.call(PATH, "zone", "getZones", &()).await?;
        let zones: Vec<String> = zones.body().deserialize()?;
        let has_zone = zones.iter().any(|zone| zone == ZONE);
        let zone_added = !has_zone && self.add_zone().await?;
        let policy_added = self.add_policy().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "firewalld has no policy {POLICY}: it may reject what comes to containers");
            false
        });
        if zone_added || policy_added {
            tracing::info!("firewalld has a zone {ZONE} and a policy {POLICY} now");
            self.call(PATH, "", "reload", &()).await?;
        }
        Ok(())
    }

    /// Whether the next reload brings something new.
    async fn add_zone(&self) -> zbus::Result<bool> {
        let settings = HashMap::from([
            ("version", Variant::from("1.0")),
            (
                "description",
                Variant::from("bridges of container networks"),
            ),
            ("target", Variant::from("ACCEPT")),
        ]);
        let added = self
            .call(CONFIG_PATH, "config", "addZone2", &(ZONE, settings))
            .await;
        match added {
            Err(error) if says(&error, "NAME_CONFLICT") => Ok(true),
            other => other.map(|_| true),
        }
    }

    async fn add_policy(&self) -> zbus::Result<bool> {
        let settings = HashMap::from([
            ("version", Variant::from("1.0")),
            (
                "description",
                Variant::from("to bridges of container networks"),
            ),
            ("ingress_zones", Variant::from(vec!["ANY"])),
            ("egress_zones", Variant::from(vec![ZONE])),
            ("target", Variant::from("ACCEPT")),
        ]);
        let added = self
            .call(CONFIG_PATH, "config", "addPolicy", &(POLICY, settings))
            .await;
        match added {
            Err(error) if says(&error, "NAME_CONFLICT") => Ok(false),
            other => other.map(|_| true),
        }
    }

    async fn add_all(&self, owner: &Owner) {
        for bridge in (owner.bridges)() {
            self.change(&Change::Add(bridge)).await;
        }
    }

    async fn change(&self, change: &Change) {
        let (method, bridge) = match change {
            Change::Settle => return,
            Change::Add(bridge) => ("addInterface", bridge),
            Change::Remove(bridge) => ("removeInterface", bridge),
        };
        if !self.guards_us().await {
            return;
        }
        let changed = self
            .call(PATH, "zone", method, &(ZONE, bridge.as_str()))
            .await;
        match changed {
            Ok(_) => {}
            Err(error) if says(&error, "ALREADY_ENABLED") || says(&error, "ZONE_ALREADY_SET") => {}
            Err(error) if says(&error, "UNKNOWN_INTERFACE") => {}
            // Such as ZONE_CONFLICT: the administrator put it into another one, and has the say.
            Err(error) => tracing::warn!(bridge, %error, "firewalld: {method} of the zone {ZONE}"),
        }
    }

    async fn bus_call(&self, method: &str, name: &str) -> zbus::Result<Message> {
        self.connection
            .call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), method, &name)
            .await
    }

    /// A method of firewalld. `part`: what its interface's name has after the common beginning.
    async fn call<B>(&self, path: &str, part: &str, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let interface = match part {
            "" => NAME.to_owned(),
            part => format!("{NAME}.{part}"),
        };
        self.connection
            .call_method(Some(NAME), path, Some(interface.as_str()), method, body)
            .await
    }
}

/// Whether firewalld refused with that code, the beginning of its exceptions' texts.
fn says(error: &zbus::Error, code: &str) -> bool {
    matches!(error, zbus::Error::MethodError(_, Some(text), _) if text.starts_with(code))
}
