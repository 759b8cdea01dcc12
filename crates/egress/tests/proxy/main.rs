//! The proxy as a command meets it: real sockets on loopback, a real gate and ledger.
#![allow(clippy::disallowed_methods, reason = "tests make connections")]

mod direct;
mod http;
mod inspect;
mod limits;
mod support;
mod tunnel;
