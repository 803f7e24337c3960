//! HTTP as the daemon needs it: connections, requests, answers, and taking a connection over.

pub mod body;
pub mod conn;
pub mod error;
pub mod hijack;
pub mod platform;
pub mod request;
pub mod respond;
pub mod serve;
pub mod transfer;
pub mod websocket;
