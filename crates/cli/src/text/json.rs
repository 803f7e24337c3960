//! Laying JSON out as Docker's client prints it, without changing a byte of its values.

/// Go's `json.Indent` with four blanks.
pub fn indent(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let mut depth = 0;
    let mut chars = compact.chars().peekable();
    let (mut in_text, mut escaped) = (false, false);
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                let close = if c == '{' { '}' } else { ']' };
                if chars.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_as_they_are() {
        assert_eq!(
            indent(r#"[{"a":"x,\"{\\","b":[],"c":{},"d":[1,2.50],"e":"\u003c"}]"#),
            "[\n    {\n        \"a\": \"x,\\\"{\\\\\",\n        \"b\": [],\n        \"c\": {},\n        \"d\": [\n            1,\n            \
             2.50\n        ],\n        \"e\": \"\\u003c\"\n    }\n]"
        );
        assert_eq!(indent("[]"), "[]");
    }
}
