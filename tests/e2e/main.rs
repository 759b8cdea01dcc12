//! End-to-end tests: the real program against a scripted model server on the loopback device.

#![allow(clippy::disallowed_methods, reason = "tests prepare files and start the program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics fails")]

mod approval;
mod broker;
mod canaries;
mod commands;
mod faults;
mod hostile;
mod killed;
mod ledger;
mod limits;
mod network;
mod repair;
mod sandbox;
mod secrets;
mod stage;
mod stage_killed;
mod support;
mod wires;
mod work;
mod worker;
