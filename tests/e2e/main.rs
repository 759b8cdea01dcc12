//! End-to-end tests: the real program against a scripted model server on the loopback device.

mod approval;
mod commands;
mod faults;
mod killed;
mod ledger;
mod limits;
mod sandbox;
mod secrets;
mod support;
mod wires;
mod worker;
