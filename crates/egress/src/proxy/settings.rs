//! What a proxy is made of.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use action::{Decision, Destination};
use policy::NetworkRules;
use rustls::pki_types::CertificateDer;

use super::ca::SessionCa;
use super::dial::{Resolver, SystemResolver};

/// The sockets that a command's connections arrive at. Made inside its network namespace.
#[derive(Debug)]
pub struct Doors {
    /// For programs that know of the proxy: HTTP and SOCKS5.
    pub proxy: std::net::TcpListener,
    /// For programs that do not: they listen at every address; the local address of a connection is what was meant.
    pub direct: Vec<std::net::TcpListener>,
    /// For questions about names.
    pub dns: Option<std::net::UdpSocket>,
}

/// Times and sizes.
#[derive(Debug, Clone)]
pub struct ProxyLimits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Time for the head of a request, and for the beginning of TLS and SOCKS.
    pub header: Duration,
    /// How long a client may wait for the server to speak first before it is taken to do so.
    pub first_bytes: Duration,
    /// Time to find the addresses and to connect.
    pub connect: Duration,
    /// Time after which a connection ends on which nothing goes.
    pub idle: Duration,
    /// Time that open connections get to end after the command has ended.
    pub drain: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            header: Duration::from_secs(15),
            first_bytes: Duration::from_millis(300),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            drain: Duration::from_millis(500),
        }
    }
}

/// How a proxy works.
pub struct ProxySettings {
    /// The rules, for addresses and inspection. What may be connected to is decided by the gate's policy, which
    /// should have the same.
    pub rules: NetworkRules,
    /// The authority for inspected TLS; needed when the rules inspect anything.
    pub ca: Option<Rc<SessionCa>>,
    /// Roots that servers are verified against in addition to the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Finds addresses.
    pub resolver: Box<dyn Resolver>,
    /// Decides on addresses; [`NetworkRules::decide_address`] other than in tests that cut this wire.
    pub addresses: fn(&NetworkRules, &Destination, IpAddr) -> Decision,
    /// Most bytes in both directions together.
    pub max_bytes: Option<u64>,
    /// Most bytes a second in both directions together.
    pub rate: Option<u64>,
    /// Times and sizes.
    pub limits: ProxyLimits,
}

impl ProxySettings {
    /// The usual settings with these rules.
    #[must_use]
    pub fn new(rules: NetworkRules) -> Self {
        Self {
            rules,
            ca: None,
            extra_roots: Vec::new(),
            resolver: Box::new(SystemResolver),
            addresses: NetworkRules::decide_address,
            max_bytes: None,
            rate: None,
            limits: ProxyLimits::default(),
        }
    }
}
