//! Filling a template in.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::parse::{Call, Node, Operand, Pipeline, What};
use super::{TemplateError, funcs, show};

/// A method of the root value: its arguments to its value.
pub type Method<'a> = &'a dyn Fn(&str, &[Value]) -> Option<Value>;

/// The value of a field that is not there: the name of the object it is asked of (empty for the root, `None` if that is
/// not known) and its own name to a value.
pub type Absent<'a> = &'a dyn Fn(Option<&str>, &str) -> Option<Value>;

/// What a template is filled in with.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    value: &'a Value,
    /// What Go calls the root's type in errors; `None` for a map.
    type_name: Option<&'a str>,
    method: Option<Method<'a>>,
    absent: Option<Absent<'a>>,
    /// The values are column headers: functions that change values leave them as they are.
    headers: bool,
    /// The root as JSON has `<`, `>` and `&` escaped: Go's types that write themselves do so.
    escaped_json: bool,
}

impl<'a> Data<'a> {
    /// A plain JSON value: a missing key is an error that names it.
    pub fn value(value: &'a Value) -> Data<'a> {
        Data {
            value,
            type_name: None,
            method: None,
            absent: None,
            headers: false,
            escaped_json: false,
        }
    }

    /// A row of a listing, known by a type's name in errors.
    pub fn row(value: &'a Value, type_name: &'a str) -> Data<'a> {
        Data {
            value,
            type_name: Some(type_name),
            method: None,
            absent: None,
            headers: false,
            escaped_json: false,
        }
    }

    /// Methods that the root has besides its fields, for example `.Label "name"`.
    pub fn with_method(mut self, method: Method<'a>) -> Data<'a> {
        self.method = Some(method);
        self
    }

    /// Values of fields that may be left out.
    pub fn with_absent(mut self, absent: Absent<'a>) -> Data<'a> {
        self.absent = Some(absent);
        self
    }

    /// The root as JSON has `<`, `>` and `&` escaped.
    pub fn with_escaped_json(mut self) -> Data<'a> {
        self.escaped_json = true;
        self
    }

    /// The values are column headers.
    pub fn of_headers(mut self) -> Data<'a> {
        self.headers = true;
        self
    }
}

/// Fills in a tree.
pub fn render(source: &str, nodes: &[Node], data: &Data<'_>) -> Result<String, TemplateError> {
    let mut state = State {
        source,
        data,
        variables: vec![("".into(), data.value.clone())],
        out: String::new(),
    };
    state.nodes(nodes, data.value)?;
    Ok(state.out)
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    source: &'a str,
    data: &'a Data<'a>,
    variables: Vec<(String, Value)>,
    out: String,
}

impl State<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&show_result(pipeline, &value));
                }
            }
            Node::If(branches) => {
                let scope = self.variables.len();
                for (condition, body) in branches {
                    let holds = match condition {
                        Some(condition) => is_true(&self.pipeline(condition, dot)?),
                        None => true,
                    };
                    if holds {
                        let flow = self.nodes(body, dot)?;
                        self.variables.truncate(scope);
                        return Ok(flow);
                    }
                }
                self.variables.truncate(scope);
            }
            Node::With(pipeline, body, other) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = if is_true(&value) {
                    self.nodes(body, &value)?
                } else {
                    self.nodes(other, dot)?
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(pipeline, body, other) => self.range(pipeline, body, other, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        other: &[Node],
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let value = self.pipeline_value(pipeline, dot)?;
        let call = &pipeline.commands[pipeline.commands.len() - 1];
        let elements: Vec<(Value, Value)> = match value {
            Value::Null => Vec::new(),
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| (Value::from(i), item))
                .collect(),
            Value::Object(map) => {
                let mut entries: Vec<_> = map
                    .into_iter()
                    .map(|(key, item)| (Value::String(key), item))
                    .collect();
                entries.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
                entries
            }
            Value::Number(n) if n.as_u64().is_some() => (0..n.as_u64().unwrap_or(0))
                .map(|i| (Value::from(i), Value::from(i)))
                .collect(),
            other => {
                return Err(self.error(
                    call.at,
                    &call.written,
                    format!("range can't iterate over {}", show::show(&other)),
                ));
            }
        };
        if elements.is_empty() {
            self.nodes(other, dot)?;
            return Ok(());
        }
        for (key, item) in elements {
            let scope = self.variables.len();
            match pipeline.variables.as_slice() {
                [value] => self.set(value, item.clone(), pipeline.declares),
                [name, value] => {
                    self.set(name, key, pipeline.declares);
                    self.set(value, item.clone(), pipeline.declares);
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, declare: bool) {
        let known = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        match known {
            Some((_, old)) if !declare => *old = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.pipeline_value(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.declares);
        }
        Ok(value)
    }

    fn pipeline_value(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for call in &pipeline.commands {
            value = Some(self.call(call, dot, value)?);
        }
        Ok(value.unwrap_or_default())
    }

    fn call(
        &mut self,
        call: &Call,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let (first, rest) = call
            .operands
            .split_first()
            .expect("the parser makes no call without operands");
        if let What::Function(name) = &first.what {
            return self.function(call, name, rest, dot, piped);
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        let mut arguments = self.operands(rest, dot)?;
        arguments.extend(piped);
        let method = match (&first.what, first.fields.as_slice(), self.data.method) {
            (What::Dot, [name], Some(method)) => method(name, &arguments),
            (What::Variable(root), [name], Some(method)) if root.is_empty() => {
                method(name, &arguments)
            }
            _ => None,
        };
        method.ok_or_else(|| {
            let reason = match first.fields.last() {
                Some(name) => format!("{name} has arguments but cannot be invoked as function"),
                None => format!("can't give argument to non-function {}", first.written),
            };
            self.error(first.at, &first.written, reason)
        })
    }

    fn function(
        &mut self,
        call: &Call,
        name: &str,
        rest: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        if let "and" | "or" = name {
            return self.short_circuit(name == "or", rest, dot, piped);
        }
        let mut arguments = self.operands(rest, dot)?;
        arguments.extend(piped);
        if self.data.headers && funcs::keeps_headers(name) {
            return Ok(arguments.into_iter().next().unwrap_or_default());
        }
        if let ("json", [root @ Value::Object(_)], true) =
            (name, arguments.as_slice(), self.data.escaped_json)
        {
            return Ok(wharf_api::gojson::to_string(root).into());
        }
        funcs::call(name, &arguments).map_err(|reason| {
            let reason = match reason {
                funcs::CallError::Count(text) => text,
                funcs::CallError::Failed(text) => format!("error calling {name}: {text}"),
            };
            self.error(call.at, &call.written, reason)
        })
    }

    /// `and` and `or` give the argument that decided, and evaluate none after it.
    fn short_circuit(
        &mut self,
        stop_at: bool,
        rest: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut value = Value::Null;
        for operand in rest {
            value = self.operand(operand, dot)?;
            if is_true(&value) == stop_at {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }

    fn operands(&mut self, operands: &[Operand], dot: &Value) -> Result<Vec<Value>, TemplateError> {
        operands
            .iter()
            .map(|operand| self.operand(operand, dot))
            .collect()
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let base: Cow<'_, Value> = match &operand.what {
            What::Dot => Cow::Borrowed(dot),
            What::Variable(name) => {
                match self.variables.iter().rev().find(|(known, _)| known == name) {
                    Some((_, value)) => Cow::Owned(value.clone()),
                    None => {
                        return Err(TemplateError::Parse(format!(
                            "undefined variable \"${name}\""
                        )));
                    }
                }
            }
            What::Constant(value) => Cow::Borrowed(value),
            What::Function(name) => Cow::Owned(funcs::call(name, &[]).map_err(|_| {
                self.error(operand.at, &operand.written, "wrong number of args".into())
            })?),
            What::Pipeline(pipeline) => Cow::Owned(self.pipeline(pipeline, dot)?),
        };
        let mut value: &Value = &base;
        let mut made;
        for (depth, name) in operand.fields.iter().enumerate() {
            let at_root = depth == 0 && std::ptr::eq(value, self.data.value);
            let missing = |reason| self.error(operand.at, &operand.written, reason);
            match value {
                Value::Object(map) => match map.get(name) {
                    Some(found) => value = found,
                    None => {
                        let parent = match depth {
                            0 if at_root => Some(""),
                            0 => None,
                            depth => Some(operand.fields[depth - 1].as_str()),
                        };
                        let absent = || self.data.absent.and_then(|absent| absent(parent, name));
                        let found = self
                            .data
                            .method
                            .filter(|_| at_root)
                            .and_then(|method| method(name, &[]));
                        made = found
                            .or_else(absent)
                            .ok_or_else(|| missing(self.no_field(name, at_root)))?;
                        value = &made;
                    }
                },
                Value::Null => {
                    return Err(missing(format!("nil data; no entry for key \"{name}\"")));
                }
                other => {
                    let reason = format!(
                        "can't evaluate field {name} in type {}",
                        show::type_name(other)
                    );
                    return Err(missing(reason));
                }
            }
        }
        Ok(value.clone())
    }

    fn no_field(&self, name: &str, at_root: bool) -> String {
        match self.data.type_name {
            Some(type_name) if at_root => {
                format!("can't evaluate field {name} in type {type_name}")
            }
            _ => format!("map has no entry for key \"{name}\""),
        }
    }

    fn error(&self, at: usize, node: &str, reason: String) -> TemplateError {
        let before = &self.source[..at.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').unwrap_or(0);
        let node = node.to_owned();
        TemplateError::Execute {
            line,
            column,
            node,
            reason,
        }
    }
}

/// Fields that are maps of lists: an absent list in them prints as an empty one too.
const MAPS_OF_LISTS: [&str; 2] = ["Ports", "PortBindings"];

/// A value as printed. A list or map that is not there prints as an empty one: in Go's types it is one.
fn show_result(pipeline: &Pipeline, value: &Value) -> String {
    let field = match pipeline.commands.as_slice() {
        [call] if call.operands.len() == 1 => call.operands[0].fields.last(),
        _ => None,
    };
    match (value, field) {
        (Value::Null, Some(name)) => show::show_null(name).to_owned(),
        (Value::Null, None)
            if pipeline
                .commands
                .last()
                .is_some_and(|call| call.written.starts_with("index")) =>
        {
            String::new()
        }
        (Value::Object(map), Some(name)) if MAPS_OF_LISTS.contains(&name.as_str()) => {
            let list = |value: &Value| {
                if value.is_null() {
                    json!([])
                } else {
                    value.clone()
                }
            };
            show::show(
                &map.iter()
                    .map(|(key, value)| (key.clone(), list(value)))
                    .collect(),
            )
        }
        _ => show::show(value),
    }
}

/// What Go's `if` takes for true: not false, zero, empty or nil.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        // A struct is always true in Go, a map only when it has entries.
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Template;
    use super::*;

    fn render(source: &str, value: &Value) -> Result<String, String> {
        Template::parse(source)
            .and_then(|t| t.render_value(value))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn fills_in_what_scripts_write() {
        let data = json!({
            "Id": "abc", "Name": "/web", "Running": true, "Pid": 7, "Ratio": 1.5, "Nothing": null, "Bindings": {"Ports": {"80/tcp": null}}, "Health": null,
            "Config": {"Labels": {"b": "2", "a": "1"}, "Env": ["A=1", "B=2"], "Entrypoint": null},
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "other": {"IPAddress": "10.0.0.2"}}},
        });
        for (source, expected) in [
            ("{{.Id}}", "abc"),
            (
                "{{ .Id }} {{.Pid}} {{.Ratio}} {{.Running}}",
                "abc 7 1.5 true",
            ),
            ("{{json .Config.Env}}", "[\"A=1\",\"B=2\"]"),
            ("{{json .Config.Labels}}", "{\"b\":\"2\",\"a\":\"1\"}"),
            (
                "{{.Config.Env}} {{.Config.Labels}}",
                "[A=1 B=2] map[a:1 b:2]",
            ),
            (
                "{{.Config.Entrypoint}} {{.Nothing}} {{.Health}}",
                "[] <nil> <nil>",
            ),
            ("{{json .Config.Entrypoint}}", "null"),
            ("{{.Bindings.Ports}}", "map[80/tcp:[]]"),
            ("{{join .Config.Env \",\"}}", "A=1,B=2"),
            (
                "{{index .Config.Labels \"a\"}}{{index .Config.Labels \"zz\"}}",
                "1",
            ),
            (
                "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
                "8080",
            ),
            (
                "{{range .NetworkSettings.Networks}}{{.IPAddress}};{{end}}",
                "172.17.0.2;10.0.0.2;",
            ),
            (
                "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}",
                "bridge=172.17.0.2 other=10.0.0.2 ",
            ),
            (
                "{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}",
                "A=1,B=2",
            ),
            (
                "{{if .Health}}{{.Health.Status}}{{else}}none{{end}}",
                "none",
            ),
            (
                "{{if eq .Pid 8}}a{{else if eq .Id \"abc\"}}b{{else}}c{{end}}",
                "b",
            ),
            ("{{with .Config}}{{len .Env}}{{end}}", "2"),
            (
                "{{.Name | printf \"%s:%d\" \"x\" | upper}}",
                "X:%!D(STRING=/WEB)",
            ),
            (
                "{{printf \"%-6s|%5d|%q|%v\" .Id .Pid .Id .Running}}",
                "abc   |    7|\"abc\"|true",
            ),
            (
                "{{slice .Id 1}} {{title .Id}} {{lower \"ABC\"}}",
                "bc Abc abc",
            ),
            (
                "{{(split \"a,b\" \",\")}} {{truncate .Name 3}} {{pad .Id 1 2}}|",
                "[a b] /we  abc  |",
            ),
            ("{{println .Id}}{{print 1 2 \"x\" 3}}", "abc\n1 2x3"),
            ("a {{- /* note */ -}} b", "ab"),
            ("{{- .Id -}}  x", "abcx"),
            (
                "{{and .Running .Pid}} {{or .Nothing .Id}} {{not .Running}}",
                "7 abc false",
            ),
            (
                "{{$x := .Id}}{{range .Config.Env}}{{$x}}{{$.Pid}}{{end}}",
                "abc7abc7",
            ),
            (
                "{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}",
                "A=1",
            ),
            ("{{range .Nothing}}x{{else}}empty{{end}}", "empty"),
            (
                "{{gt .Pid 3}} {{le .Pid 6}} {{ne .Id \"x\"}}",
                "true false true",
            ),
            ("{{`raw \"`}}{{\"\\t\"}}", "raw \"\t"),
        ] {
            assert_eq!(render(source, &data).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn errors_read_as_go_writes_them() {
        let data = json!({"State": {"Status": "running"}, "Id": "x"});
        for (source, expected) in [
            (
                "{{.Foo}}",
                "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
            ),
            (
                "{{.State.Foo}}",
                "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"",
            ),
            (
                "{{.Id.Foo}}",
                "template: :1:5: executing \"\" at <.Id.Foo>: can't evaluate field Foo in type interface {}",
            ),
            ("{{", "template: :1: unclosed action"),
            ("{{foo}}", "template: :1: function \"foo\" not defined"),
            ("{{if .Id}}", "template: :1: unexpected EOF"),
            ("{{end}}", "template: :1: unexpected {{end}}"),
        ] {
            assert_eq!(render(source, &data), Err(expected.to_owned()), "{source}");
        }
        let row = Data::row(&data, "*formatter.ContainerContext");
        let error = Template::parse("{{.Foo}}")
            .expect("a template")
            .render(&row)
            .expect_err("no such field");
        assert_eq!(
            error.to_string(),
            "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
    }

    #[test]
    fn rows_have_methods() {
        let data = json!({"ID": "x"});
        let method = |name: &str, args: &[Value]| match (name, args) {
            ("Label", [Value::String(key)]) => Some(json!(format!("<{key}>"))),
            _ => None,
        };
        let template = Template::parse("{{.ID}} {{.Label \"a\"}} {{json (.Label \"b\")}}")
            .expect("a template");
        let data = Data::row(&data, "*X").with_method(&method);
        assert_eq!(template.render(&data).as_deref(), Ok("x <a> \"<b>\""));
    }
}
