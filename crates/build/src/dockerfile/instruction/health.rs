//! `HEALTHCHECK`.

use wharf_api::time::parse_go_duration;
use wharf_spec::image_config::Healthcheck;

use super::super::arguments::Arguments;
use super::super::error::Problem;
use super::super::expand::quote;
use super::super::flags::{Flags, Kind};
use super::super::node::Node;

const FLAGS: [(&str, Kind); 5] = [
    ("interval", Kind::One),
    ("timeout", Kind::One),
    ("start-period", Kind::One),
    ("start-interval", Kind::One),
    ("retries", Kind::One),
];

pub(crate) fn parse(node: &Node) -> Result<Healthcheck, Problem> {
    let Arguments::Health(kind, command) = &node.arguments else {
        return Err(Problem::AtLeastOne("HEALTHCHECK"));
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        if **command != Arguments::None {
            return Err(Problem::HealthNone);
        }
        return Ok(Healthcheck {
            test: vec![kind],
            ..Healthcheck::default()
        });
    }
    let flags = Flags::parse(&node.flags, &FLAGS)?;
    if kind != "CMD" {
        return Err(Problem::HealthType(quote(&kind)));
    }
    Ok(Healthcheck {
        test: test(command)?,
        interval: duration(&flags, "interval")?,
        timeout: duration(&flags, "timeout")?,
        start_period: duration(&flags, "start-period")?,
        start_interval: duration(&flags, "start-interval")?,
        retries: retries(&flags.text("retries"))?,
    })
}

fn test(command: &Arguments) -> Result<Vec<String>, Problem> {
    match command {
        Arguments::Json(words) if !words.is_empty() => {
            let mut test = vec!["CMD".to_owned()];
            test.extend(words.iter().cloned());
            Ok(test)
        }
        Arguments::Text(text) => Ok(vec!["CMD-SHELL".to_owned(), text.clone()]),
        _ => Err(Problem::HealthCommand),
    }
}

/// Nanoseconds; 0 if not given.
fn duration(flags: &Flags, name: &str) -> Result<i64, Problem> {
    const MINIMUM: i64 = 1_000_000;
    let text = flags.text(name);
    if text.is_empty() {
        return Ok(0);
    }
    let nanoseconds = parse_go_duration(&text)
        .ok_or_else(|| Problem::Value(format!("time: invalid duration {}", quote(&text))))?;
    if nanoseconds != 0 && nanoseconds < MINIMUM {
        return Err(Problem::ShortInterval(quote(name)));
    }
    Ok(nanoseconds)
}

fn retries(text: &str) -> Result<i64, Problem> {
    if text.is_empty() {
        return Ok(0);
    }
    let retries: i32 = text.parse().map_err(|_| {
        Problem::Value(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            quote(text)
        ))
    })?;
    if retries < 0 {
        return Err(Problem::NegativeRetries(retries.into()));
    }
    Ok(retries.into())
}
