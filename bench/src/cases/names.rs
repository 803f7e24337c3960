//! Names: many containers look each other up while others come and go.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use wharf_e2e::images::BUSYBOX;

use crate::measure::Values;
use crate::side::{Api, Side};
use crate::traffic::{Place, done};

const NETWORK: &str = "bench-names";
/// Containers that stay and ask.
const ASKERS: usize = 100;
/// Questions of each, one in ten for one that comes and goes.
const QUESTIONS: usize = 100;
/// Between two questions of one container.
const PAUSE: Duration = Duration::from_millis(100);
/// 20 come each second, and 20 go.
const COMES_EVERY: Duration = Duration::from_millis(50);
/// How many of them there are at a time.
const GUESTS: usize = 20;

/// What a name means now: an address, nothing, or on its way from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Address(Ipv4Addr),
    Nothing,
    Unsettled,
}

type Names = Arc<Mutex<HashMap<String, Meaning>>>;

/// 10,000 questions of 100 containers, while 20 others come and go each second: median and longest wait, and wrong answers.
pub(crate) fn churn(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    api.request("POST", "/networks/create", Some(&json!({"Name": NETWORK})))?;
    let names: Names = Arc::default();
    let mut places = Vec::new();
    let mut ids = Vec::new();
    for number in 0..ASKERS {
        let id = come(&mut api, &format!("stays{number}"), &names)?;
        places.push(place(&mut api, &id)?);
        ids.push(id);
    }
    let over = Arc::new(AtomicBool::new(false));
    let answers = thread::scope(|scope| {
        let guests = scope.spawn(|| come_and_go(side, &names, &over));
        let asking: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(number, place)| {
                let names = Arc::clone(&names);
                place.spawn(move || ask_all(number, &names))
            })
            .collect();
        let answers: Result<Vec<_>> = asking.into_iter().map(done).collect();
        over.store(true, Ordering::Relaxed);
        guests.join().expect("guests do not panic")?;
        answers
    });
    for id in ids {
        api.remove(&id)?;
    }
    api.request("DELETE", &format!("/networks/{NETWORK}"), None)?;
    let (waits, wrong): (Vec<_>, Vec<_>) = answers?.into_iter().unzip();
    let mut waits = waits.concat();
    waits.sort_by(f64::total_cmp);
    let wrong: u32 = wrong.into_iter().sum();
    Ok(vec![
        ("median".to_owned(), waits[waits.len() / 2]),
        ("worst".to_owned(), waits[waits.len() - 1]),
        ("wrong answers".to_owned(), wrong.into()),
    ])
}

/// A container of that name, which means its address when this returns.
fn come(api: &mut Api, name: &str, names: &Names) -> Result<String> {
    let mean = |meaning| {
        names
            .lock()
            .expect("unpoisoned")
            .insert(name.into(), meaning)
    };
    mean(Meaning::Unsettled);
    let body = json!({
        "Image": BUSYBOX, "Cmd": ["sleep", "100000"], "StopSignal": "SIGKILL", "HostConfig": {"NetworkMode": NETWORK}
    });
    let target = format!("/containers/create?name={name}");
    let answer = api.request("POST", &target, Some(&body))?;
    let id = answer["Id"].as_str().context("an id")?.to_owned();
    api.start(&id)?;
    let shown = api.request("GET", &format!("/containers/{id}/json"), None)?;
    let address = shown["NetworkSettings"]["Networks"][NETWORK]["IPAddress"].as_str();
    mean(Meaning::Address(address.context("an address")?.parse()?));
    Ok(id)
}

fn come_and_go(side: &Side, names: &Names, over: &AtomicBool) -> Result<()> {
    let mut api = side.connect();
    let mut there: Vec<(String, String)> = Vec::new();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) || !there.is_empty() {
        let next = Instant::now() + COMES_EVERY;
        if !over.load(Ordering::Relaxed) {
            let name = format!("guest{}", number % (2 * GUESTS));
            number += 1;
            let id = come(&mut api, &name, names)?;
            there.push((name, id));
        }
        if there.len() > GUESTS || over.load(Ordering::Relaxed) {
            let (name, id) = there.remove(0);
            let mean = |meaning| {
                names
                    .lock()
                    .expect("unpoisoned")
                    .insert(name.clone(), meaning)
            };
            mean(Meaning::Unsettled);
            api.remove(&id)?;
            mean(Meaning::Nothing);
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// One container's questions: how long each took, and how many answers were wrong.
fn ask_all(own: usize, names: &Names) -> Result<(Vec<f64>, u32)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.11:53")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut waits, mut wrong) = (Vec::with_capacity(QUESTIONS), 0);
    // Not all at once.
    thread::sleep(PAUSE * u32::try_from(own)? / u32::try_from(ASKERS)?);
    for number in 0..QUESTIONS {
        let name = if number % 10 == 0 {
            format!("guest{}", (own + number / 10) % (2 * GUESTS))
        } else {
            format!("stays{}", (own + number * 7) % ASKERS)
        };
        let means = || names.lock().expect("unpoisoned").get(&name).copied();
        let before = means();
        let begin = Instant::now();
        let answer = ask(&socket, u16::try_from(number)?, &name)?;
        waits.push(begin.elapsed().as_secs_f64() * 1e3);
        let expected = match before {
            // What changed meanwhile may be answered either way.
            _ if before != means() => continue,
            Some(Meaning::Unsettled) => continue,
            Some(Meaning::Address(address)) => Some(address),
            Some(Meaning::Nothing) | None => None,
        };
        if answer != expected {
            eprintln!("{name}: answered {answer:?}, expected {expected:?}");
            wrong += 1;
        }
        thread::sleep(PAUSE);
    }
    Ok((waits, wrong))
}

/// The address that the name server tells; `None` when there is no such name.
fn ask(socket: &UdpSocket, id: u16, name: &str) -> Result<Option<Ipv4Addr>> {
    // Recursion desired, one question (RFC 1035, 4.1).
    let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question[..2].copy_from_slice(&id.to_be_bytes());
    question.push(u8::try_from(name.len())?);
    question.extend(name.bytes());
    question.extend([0, 0, 1, 0, 1]);
    socket.send(&question)?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).context("an answer in time")?;
    ensure!(
        length >= question.len() && buffer[..2] == id.to_be_bytes(),
        "an answer to the question"
    );
    match buffer[3] & 15 {
        0 if buffer[7] > 0 => {
            let tail: [u8; 4] = buffer[length - 4..length].try_into()?;
            Ok(Some(tail.into()))
        }
        // Nobody outside can be asked.
        0 | 2 | 3 => Ok(None),
        code => bail!("the name server answers {code} for {name}"),
    }
}

fn place(api: &mut Api, id: &str) -> Result<Place> {
    let shown = api.request("GET", &format!("/containers/{id}/json"), None)?;
    let pid = shown["State"]["Pid"].as_u64().context("a process id")?;
    Place::named(format!("/proc/{pid}/ns/net").as_ref())
}
