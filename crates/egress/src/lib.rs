//! The network. One HTTP client for Varvel itself, made for one authorised destination: it resolves no other name,
//! follows no redirect, uses no proxy from the environment, and speaks TLS 1.2 or later. And the [`proxy`] that
//! confined commands reach the network through.
//!
//! Architecture Invariant: no other crate opens a connection. Provider libraries get their client from here.
#![allow(clippy::disallowed_methods, reason = "an enforcement crate: connections are made here")]

mod client;
mod fetch;
pub mod proxy;

pub use client::{Egress, EgressError, destination};
pub use fetch::{Fetched, fetch};
pub use proxy::{
    CaError, Denied, Doors, NetworkReport, Proxy, ProxyLimits, ProxySettings, Resolver, SessionCa,
    SystemResolver,
};
