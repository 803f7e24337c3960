//! Results as a table, and as JSON.

use serde_json::{Map, Value, json};

use crate::cases::Case;
use crate::measure::{Results, summary};
use crate::side::Side;

/// The first line.
pub(crate) fn print_head(sides: &[Side]) {
    let mut line = format!("{:24}", "case (ms unless named)");
    for side in sides {
        line.push_str(&format!(" {:>12} {:>9} {:>9}", side.name, "min", "max"));
    }
    if sides.len() == 2 {
        line.push_str(&format!(" {:>8}", "ratio"));
    }
    println!("{line}   n");
}

/// One line per measured value of a case.
pub(crate) fn print_case(case: &Case, sides: &[Side], results: &[Results]) {
    for (side, result) in sides.iter().zip(results) {
        if let Some(error) = &result.error {
            println!("{:24} {}: {error}", case.name, side.name);
        }
    }
    for name in names(results) {
        println!("{}", row(case.name, name, results));
    }
}

pub(crate) fn names(results: &[Results]) -> Vec<&str> {
    let mut names = Vec::new();
    for (name, _) in results.iter().flat_map(|r| &r.series) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// What a value is called: its case's name, and its own if the case has several.
pub(crate) fn label(case: &str, name: &str) -> String {
    if name.is_empty() {
        case.to_owned()
    } else {
        format!("{case}.{name}")
    }
}

fn row(case: &str, name: &str, results: &[Results]) -> String {
    let label = label(case, name);
    let mut line = format!("{label:24}");
    let mut medians = Vec::new();
    let mut runs = 0;
    for result in results {
        let values = result.get(name).unwrap_or_default();
        runs = runs.max(values.len());
        match summary(values) {
            Some((median, min, max)) => {
                medians.push(median);
                line.push_str(&format!(" {median:12.2} {min:9.2} {max:9.2}"));
            }
            None => line.push_str(&format!(" {:>12} {:>9} {:>9}", "-", "", "")),
        }
    }
    if results.len() == 2 {
        match medians[..] {
            [ours, theirs] if theirs > 0.0 => line.push_str(&format!(" {:8.3}", ours / theirs)),
            _ => line.push_str(&format!(" {:>8}", "")),
        }
    }
    format!("{line} {runs:3}")
}

/// Every value: case, side, name, list.
pub(crate) fn to_json(sides: &[Side], all: &[(&str, Vec<Results>)]) -> Value {
    let mut cases = Map::new();
    for (case, results) in all {
        let mut by_side = Map::new();
        for (side, result) in sides.iter().zip(results) {
            let series: Map<String, Value> = result
                .series
                .iter()
                .map(|(name, values)| (name.clone(), json!(values)))
                .collect();
            by_side.insert(side.name.clone(), Value::Object(series));
        }
        cases.insert((*case).to_owned(), Value::Object(by_side));
    }
    Value::Object(cases)
}
