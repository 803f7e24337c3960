//! One request, as data, and its bytes.

use std::io::Read;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// What may stand in a path segment as it is; the rest is escaped. `/` stays, since image names contain it.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'%');
/// RFC 3986 unreserved characters.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What is sent after the head.
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Vec<u8>),
    /// Bytes until the reader ends, chunked.
    Stream(&'a mut dyn Read, &'static str),
}

/// One request; the API version is put before its path when it is sent.
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path below the version, for example `/containers/json`.
    pub path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    /// What is sent after the head.
    pub payload: Payload<'a>,
    /// Asks for the connection itself (`Upgrade: tcp`).
    pub upgrade: bool,
}

impl<'a> Request<'a> {
    /// A request without query and body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Request<'a> {
        Request {
            method,
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            payload: Payload::Empty,
            upgrade: false,
        }
    }

    /// `GET`.
    pub fn get(path: impl Into<String>) -> Request<'a> {
        Request::new("GET", path)
    }

    /// `POST`.
    pub fn post(path: impl Into<String>) -> Request<'a> {
        Request::new("POST", path)
    }

    /// `DELETE`.
    pub fn delete(path: impl Into<String>) -> Request<'a> {
        Request::new("DELETE", path)
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Request<'a> {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query.push(separator);
        self.query.push_str(name);
        self.query.push('=');
        self.query
            .extend(utf8_percent_encode(value.as_ref(), QUERY));
        self
    }

    /// Adds a query parameter if the condition holds.
    pub fn query_if(self, condition: bool, name: &str, value: impl AsRef<str>) -> Request<'a> {
        if condition {
            self.query(name, value)
        } else {
            self
        }
    }

    /// Adds a header field.
    pub fn header(mut self, name: &'static str, value: String) -> Request<'a> {
        self.headers.push((name, value));
        self
    }

    /// Sends a JSON body.
    pub fn json(mut self, body: &Value) -> Request<'a> {
        self.payload = Payload::Json(serde_json::to_vec(body).expect("a JSON value has a text"));
        self
    }

    /// Sends what the reader gives.
    pub fn stream(mut self, body: &'a mut dyn Read, content_type: &'static str) -> Request<'a> {
        self.payload = Payload::Stream(body, content_type);
        self
    }

    /// Asks for the connection itself.
    pub fn upgrade(mut self) -> Request<'a> {
        self.upgrade = true;
        self
    }

    /// Path and query, with the API version before them if one is agreed on.
    pub fn target(&self, version: Option<&str>) -> String {
        let version = version
            .map(|version| format!("/v{version}"))
            .unwrap_or_default();
        format!(
            "{version}{}{}",
            utf8_percent_encode(&self.path, PATH),
            self.query
        )
    }

    /// The bytes of the head, and of the body unless it is a stream.
    pub fn bytes(&self, version: Option<&str>, user_agent: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: api.moby.localhost\r\nUser-Agent: {user_agent}\r\n",
            self.method,
            self.target(version)
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.upgrade {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        match &self.payload {
            Payload::Json(body) => {
                head.push_str(&format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                ));
                [head.as_bytes(), body].concat()
            }
            Payload::Stream(_, content_type) => {
                head.push_str(&format!(
                    "Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
                ));
                head.into_bytes()
            }
            Payload::Empty => {
                let length = if self.method == "POST" {
                    "Content-Length: 0\r\n"
                } else {
                    ""
                };
                head.push_str(&format!("{length}\r\n"));
                head.into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_escaped() {
        let request = Request::get("/images/a/b:c/json")
            .query("filters", "{\"a b\":true}")
            .query_if(false, "x", "y");
        assert_eq!(
            request.target(Some("1.51")),
            "/v1.51/images/a/b:c/json?filters=%7B%22a%20b%22%3Atrue%7D"
        );
        assert_eq!(Request::get("/_ping").target(None), "/_ping");
    }

    #[test]
    fn an_upgrade_and_its_body_go_out_in_one_piece() {
        let bytes = Request::post("/exec/1/start")
            .json(&serde_json::json!({"Tty": true}))
            .upgrade()
            .bytes(None, "t");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "POST /exec/1/start HTTP/1.1\r\nHost: api.moby.localhost\r\nUser-Agent: t\r\nConnection: Upgrade\r\n\
             Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"Tty\":true}"
        );
    }
}
