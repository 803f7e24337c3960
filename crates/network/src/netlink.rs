//! Netlink conversations: several messages in one send, all answers in one pass.
//!
//! The kernel handles rtnetlink and nfnetlink requests inside `sendmsg`, so when the send returns every answer is queued and
//! nothing here ever blocks.

mod batch;
mod connection;
mod reply;

pub(crate) use batch::Batch;
pub(crate) use connection::Connection;
pub(crate) use reply::NetlinkError;
