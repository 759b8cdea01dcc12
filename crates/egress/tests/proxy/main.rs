//! The proxy as a command meets it: real sockets on loopback, a real gate and ledger.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests make connections and say how long they took"
)]

mod direct;
mod http;
mod inspect;
mod limits;
mod support;
mod tunnel;
