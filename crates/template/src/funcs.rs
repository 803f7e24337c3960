//! The functions of templates: Go's own, and those that Docker's client adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::eval::is_true;
use super::show::{json_text, quote, show};

/// Why a function gave nothing.
#[derive(Debug)]
pub enum CallError {
    /// The number of arguments is wrong; the text is complete.
    Count(String),
    /// It failed.
    Failed(String),
}

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print",
    "printf", "println", "html", "js", "urlquery", "json", "split", "join", "title", "lower",
    "upper", "pad", "truncate",
];

/// Whether a template may call it.
pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether it leaves column headers as they are: Docker's own functions do.
pub fn keeps_headers(name: &str) -> bool {
    matches!(
        name,
        "json" | "split" | "join" | "title" | "lower" | "upper" | "pad" | "truncate"
    )
}

/// Calls a function.
///
/// # Errors
/// The arguments do not fit.
pub fn call(name: &str, args: &[Value]) -> Result<Value, CallError> {
    match (name, args) {
        ("not", [value]) => Ok(Value::Bool(!is_true(value))),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => equal(first, rest),
        ("ne", [a, b]) => {
            equal(a, std::slice::from_ref(b)).map(|value| Value::Bool(value == Value::Bool(false)))
        }
        ("lt" | "le" | "gt" | "ge", [a, b]) => compare(name, a, b),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys
            .iter()
            .try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        ("print", args) => Ok(print(args).into()),
        ("println", args) => {
            Ok((args.iter().map(show).collect::<Vec<_>>().join(" ") + "\n").into())
        }
        ("printf", [Value::String(format), rest @ ..]) => Ok(sprintf(format, rest).into()),
        ("html", args) => Ok(html(&print(args)).into()),
        ("js", args) => Ok(js(&print(args)).into()),
        ("urlquery", args) => Ok(urlquery(&print(args)).into()),
        ("json", [value]) => Ok(json_text(value).into()),
        ("split", [text, separator]) => Ok(split(&show(text), &show(separator))),
        ("join", [Value::Array(items), separator]) => Ok(items
            .iter()
            .map(show)
            .collect::<Vec<_>>()
            .join(&show(separator))
            .into()),
        ("join", [Value::Null, _]) => Ok("".into()),
        ("title", [text]) => Ok(title(&show(text)).into()),
        ("lower", [text]) => Ok(show(text).to_lowercase().into()),
        ("upper", [text]) => Ok(show(text).to_uppercase().into()),
        ("pad", [text, before, after]) => Ok(pad(&show(text), before, after).into()),
        ("truncate", [text, length]) => {
            let length = usize::try_from(length.as_i64().unwrap_or(0)).unwrap_or(0);
            Ok(show(text).chars().take(length).collect::<String>().into())
        }
        (name, args) => Err(CallError::Count(format!(
            "wrong number of args for {name}: got {}",
            args.len()
        ))),
    }
}

fn equal(first: &Value, rest: &[Value]) -> Result<Value, CallError> {
    for other in rest {
        let same = match (first, other) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => {
                first == other
            }
            (Value::Null, _) | (_, Value::Null) => first == other,
            _ => {
                return Err(CallError::Failed(
                    "incompatible types for comparison".into(),
                ));
            }
        };
        if same {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn compare(name: &str, a: &Value, b: &Value) -> Result<Value, CallError> {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => {
            return Err(CallError::Failed(
                "incompatible types for comparison".into(),
            ));
        }
    };
    let order = order.unwrap_or(Ordering::Equal);
    Ok(Value::Bool(match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

fn length(value: &Value) -> Result<Value, CallError> {
    match value {
        Value::Null => Ok(0.into()),
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        other => Err(CallError::Failed(format!("len of type {}", type_of(other)))),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, CallError> {
    match (value, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or_default()),
        (Value::Null, Value::String(_)) => Ok(Value::Null),
        (Value::Array(items), Value::Number(n)) => n
            .as_u64()
            .and_then(|i| items.get(usize::try_from(i).ok()?))
            .cloned()
            .ok_or_else(|| CallError::Failed("reflect: slice index out of range".to_owned())),
        (Value::Null, _) => Err(CallError::Failed("index of untyped nil".into())),
        (value, _) => Err(CallError::Failed(format!(
            "can't index item of type {}",
            type_of(value)
        ))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, CallError> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => {
            return Err(CallError::Failed(format!(
                "can't slice item of type {}",
                type_of(other)
            )));
        }
    };
    let bound = |i: usize, default: usize| match bounds.get(i) {
        None => Ok(default),
        Some(n) => n
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n <= length)
            .ok_or_else(|| CallError::Failed(format!("index out of range: {}", show(n)))),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(CallError::Failed(format!(
            "invalid slice index: {from} > {to}"
        )));
    }
    Ok(match value {
        Value::String(text) => text.get(from..to).unwrap_or_default().into(),
        Value::Array(items) => Value::Array(items[from..to].to_vec()),
        _ => Value::Null,
    })
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `Sprint`: a blank between two operands when neither is a text.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        if i > 0 && !value.is_string() && !args[i - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&show(value));
    }
    out
}

/// Go's `Sprintf` for the verbs that templates use: `%s %v %d %q %t %x %f %g %c %%`, with flags, width and precision.
pub fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(c) = chars.next_if(|c| matches!(c, '-' | '+' | '0' | '#' | ' ')) {
            spec.left |= c == '-';
            spec.zero |= c == '0';
            spec.plus |= c == '+';
        }
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            spec.width = spec.width * 10 + digit as usize;
            chars.next();
        }
        if chars.next_if_eq(&'.').is_some() {
            let mut precision = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                precision = precision * 10 + digit as usize;
                chars.next();
            }
            spec.precision = Some(precision);
        }
        match chars.next() {
            Some('%') => out.push('%'),
            None => out.push_str("%!(NOVERB)"),
            Some(verb) => match args.next() {
                Some(value) => out.push_str(&spec.apply(verb, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = args
        .map(|value| format!("{}={}", type_of(value), show(value)))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn apply(&self, verb: char, value: &Value) -> String {
        let text = match (verb, value) {
            ('v', value) => show(value),
            ('s', Value::Number(_) | Value::Bool(_)) => bad_verb(verb, value),
            ('s', value) => {
                let text = show(value);
                match self.precision {
                    Some(n) => text.chars().take(n).collect(),
                    None => text,
                }
            }
            ('q', Value::String(text)) => quote(text),
            ('t', Value::Bool(b)) => b.to_string(),
            ('d', Value::Number(n)) if n.is_i64() || n.is_u64() => self.signed(n.to_string()),
            ('x', Value::Number(n)) => format!("{:x}", n.as_i64().unwrap_or(0)),
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('c', Value::Number(n)) => n
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .and_then(char::from_u32)
                .map(String::from)
                .unwrap_or_default(),
            ('f', Value::Number(n)) => self.signed(format!(
                "{:.*}",
                self.precision.unwrap_or(6),
                n.as_f64().unwrap_or(0.0)
            )),
            ('g', value @ Value::Number(_)) => show(value),
            (verb, value) => bad_verb(verb, value),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            text + &" ".repeat(missing)
        } else if self.zero && value.is_number() {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        } else {
            " ".repeat(missing) + &text
        }
    }

    fn signed(&self, text: String) -> String {
        if self.plus && !text.starts_with('-') {
            format!("+{text}")
        } else {
            text
        }
    }
}

fn bad_verb(verb: char, value: &Value) -> String {
    format!("%!{verb}({}={})", type_of(value), show(value))
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(|c| Value::String(c.to_string())).collect();
    }
    text.split(separator).map(Value::from).collect()
}

fn title(text: &str) -> String {
    let mut at_start = true;
    text.chars()
        .flat_map(|c| {
            let upper = std::mem::replace(&mut at_start, c.is_whitespace());
            if upper {
                c.to_uppercase().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

fn pad(text: &str, before: &Value, after: &Value) -> String {
    let blanks = |n: &Value| " ".repeat(usize::try_from(n.as_u64().unwrap_or(0)).unwrap_or(0));
    if text.is_empty() {
        String::new()
    } else {
        format!("{}{text}{}", blanks(before), blanks(after))
    }
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%20", "+")
        .replace("%2D", "-")
        .replace("%5F", "_")
        .replace("%2E", ".")
        .replace("%7E", "~")
}
