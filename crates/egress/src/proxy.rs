//! The way of a confined command to the network: nothing goes out that the gate did not let.
//!
//! The proxy takes connections on sockets that were made inside the command's network namespace. Every wish becomes
//! a [`Connect`] that goes through [`Gate::perform`]: decided by name, recorded, then resolved; every address that
//! the name has is checked; exactly those are dialled. It runs beside the command on the same thread.

mod ca;
mod dial;
mod direct;
mod dns;
mod forward;
mod hello;
mod http;
mod inspect;
mod refusal;
mod report;
mod socks;
mod stream;
mod traffic;
mod tunnel;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use action::{Connect, Decision, Destination, Verdict, Via};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use gate::{Gate, GateError};
use policy::NetworkRules;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

pub use ca::{CaError, SessionCa};
pub use dial::{Resolver, SystemResolver};
pub use dns::{DnsError, Names, Question, answer as dns_answer, question as dns_question};
pub use hello::{Hello, HelloError, hello as tls_hello};
pub use report::{Denied, NetworkReport};
pub use socks::{SocksError, greeting as socks_greeting, request as socks_request};

use refusal::{Failure, Refusal, Stop};
use stream::{BoxIo, Rewound};
use traffic::Budget;
use tunnel::Opening;

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
    pub ca: Option<Arc<SessionCa>>,
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

/// The proxy of one command.
pub struct Proxy<'g> {
    gate: &'g Gate,
    settings: ProxySettings,
    proxy: TcpListener,
    direct: Vec<TcpListener>,
    dns: Option<UdpSocket>,
    names: RefCell<Names>,
    report: RefCell<NetworkReport>,
    budget: Arc<Budget>,
    /// TLS towards servers, once it is needed.
    client_tls: OnceCell<Arc<ClientConfig>>,
    /// Turns true when the command has ended and what is left has to stop.
    ending: watch::Sender<bool>,
}

impl fmt::Debug for Proxy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("report", &self.report).finish_non_exhaustive()
    }
}

impl<'g> Proxy<'g> {
    /// A proxy at `doors`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If a socket cannot be used, or TLS is to be inspected and there is no authority for it.
    pub fn new(gate: &'g Gate, settings: ProxySettings, doors: Doors) -> io::Result<Self> {
        if settings.rules.inspects_anything() && settings.ca.is_none() {
            let why = "rules of the network inspect TLS, and there is no certificate for it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let dns = match doors.dns {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                Some(UdpSocket::from_std(socket)?)
            }
            None => None,
        };
        Ok(Self {
            gate,
            proxy: listener(doors.proxy)?,
            direct: doors.direct.into_iter().map(listener).collect::<io::Result<_>>()?,
            dns,
            names: RefCell::default(),
            report: RefCell::default(),
            budget: Arc::new(Budget::new(settings.max_bytes, settings.rate)),
            client_tls: OnceCell::new(),
            ending: watch::Sender::new(false),
            settings,
        })
    }

    /// Serves until it is dropped. Connections that are open then are recorded as stopped, without numbers;
    /// [`Proxy::beside`] lets them end.
    pub async fn serve(&self) -> Infallible {
        self.beside(pending()).await
    }

    /// Serves while `command` runs, then gives what is open a moment to end, and returns what `command` did.
    pub async fn beside<T>(&self, command: impl Future<Output = T>) -> T {
        let mut open: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut command = std::pin::pin!(command);
        let mut names = std::pin::pin!(self.answer_questions());
        let result = loop {
            tokio::select! {
                result = &mut command => break result,
                never = &mut names => match never {},
                (stream, direct) = self.accept(), if open.len() < self.settings.limits.connections => {
                    open.push(Box::pin(self.serve_one(stream, direct)));
                }
                Some(()) = open.next(), if !open.is_empty() => {}
            }
        };
        // The command is gone, and with it the other ends of its connections.
        let drain = self.settings.limits.drain;
        let finished = timeout(drain, async { while open.next().await.is_some() {} }).await;
        if finished.is_err() {
            self.ending.send_replace(true);
            // What does not hear it, such as a question to a person, is dropped.
            let _ = timeout(drain, async { while open.next().await.is_some() {} }).await;
        }
        result
    }

    /// What was made and refused so far.
    #[must_use]
    pub fn report(&self) -> NetworkReport {
        let mut report = self.report.borrow().clone();
        report.bytes_out = self.budget.totals().out();
        report.bytes_in = self.budget.totals().inward();
        report
    }

    /// The next connection, and whether it was meant for somewhere else than the proxy.
    async fn accept(&self) -> (TcpStream, bool) {
        loop {
            let next = poll_fn(|context| {
                if let Poll::Ready(next) = self.proxy.poll_accept(context) {
                    return Poll::Ready(next.map(|(stream, _)| (stream, false)));
                }
                for listener in &self.direct {
                    if let Poll::Ready(next) = listener.poll_accept(context) {
                        return Poll::Ready(next.map(|(stream, _)| (stream, true)));
                    }
                }
                Poll::Pending
            });
            match next.await {
                Ok(next) => return next,
                // No descriptors left, or a client that is gone already: others may end meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn serve_one(&self, stream: TcpStream, direct: bool) {
        // Small messages go at once; if that cannot be set, they go later.
        let _ = stream.set_nodelay(true);
        if direct {
            let Ok(meant) = stream.local_addr() else { return };
            return self.direct(stream, meant).await;
        }
        let mut stream: BoxIo = Box::new(stream);
        let mut first = [0];
        let Ok(Ok(1)) = timeout(self.settings.limits.header, stream.read(&mut first)).await else { return };
        let stream: BoxIo = Box::new(Rewound::new(first.to_vec(), stream));
        match first {
            [5] => self.socks(stream).await,
            _ => self.http(stream, None).await,
        }
    }

    async fn socks(&self, mut stream: BoxIo) {
        let Ok(Some(found)) = timeout(self.settings.limits.header, socks_handshake(&mut stream)).await else {
            return;
        };
        let (at, rest) = found;
        let stream: BoxIo = if rest.is_empty() { stream } else { Box::new(Rewound::new(rest, stream)) };
        let opening = Opening::Socks(stream);
        match self.meant(at) {
            Ok(at) => self.tunnel(at, Via::Socks, None, self.settings.limits.first_bytes, opening).await,
            Err(refusal) => opening.refuse(refusal).await,
        }
    }

    async fn answer_questions(&self) -> Infallible {
        let Some(socket) = &self.dns else { return pending().await };
        let mut buffer = [0; dns::MAX_QUESTION + 1];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            // What is no question gets no answer.
            if let Ok(question) = dns::question(&buffer[..length]) {
                let answer = dns::answer(&question, &mut self.names.borrow_mut());
                let _ = socket.try_send_to(&answer, from);
            }
        }
    }

    /// Returns when what is open has to stop.
    async fn ended(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.ending.subscribe().wait_for(|ended| *ended).await;
    }

    /// Records that a connection leads where it must not.
    fn refuse(&self, connect: &Connect, decision: Decision) -> Stop {
        match self.gate.refuse_connection(connect.clone(), decision.clone()) {
            Ok(()) => Stop::Refused(decision),
            Err(error) => Stop::Unrecorded(error.to_string()),
        }
    }

    /// Whether another connection may use bytes.
    fn check_budget(&self, connect: &Connect) -> Result<(), Stop> {
        if self.budget.is_spent() { Err(self.refuse(connect, self.spent())) } else { Ok(()) }
    }

    fn spent(&self) -> Decision {
        let max = self.budget.max_bytes().unwrap_or_default();
        let reason = format!("the command has used its {max} bytes of network");
        Decision::new(Verdict::Deny, "limit.network-bytes", reason)
    }

    fn count_made(&self) {
        self.report.borrow_mut().made += 1;
    }

    fn note(&self, at: &Destination, error: &GateError<Failure>) {
        if let Some(decision) = Refusal::decision(error) {
            self.report.borrow_mut().deny(at, decision);
        }
    }

    fn note_stop(&self, at: &Destination, stop: &Stop) {
        if let Stop::Refused(decision) = stop {
            self.report.borrow_mut().deny(at, decision);
        }
    }
}

/// Reads both messages of SOCKS5; `None` if that is not possible. Gives what the client said beyond them.
async fn socks_handshake(stream: &mut BoxIo) -> Option<(Destination, Vec<u8>)> {
    let mut bytes = Vec::new();
    let length = loop {
        match socks::greeting(&bytes) {
            Ok(Some(length)) => break length,
            Ok(None) => more(stream, &mut bytes).await?,
            Err(_) => {
                let _ = stream.write_all(&[5, 0xff]).await;
                return None;
            }
        }
    };
    bytes.drain(..length);
    stream.write_all(&[5, 0]).await.ok()?;
    loop {
        match socks::request(&bytes) {
            Ok(Some((at, length))) => {
                bytes.drain(..length);
                return Some((at, bytes));
            }
            Ok(None) => more(stream, &mut bytes).await?,
            Err(error) => {
                let _ = stream.write_all(&socks::reply(error.code())).await;
                return None;
            }
        }
    }
}

async fn more(stream: &mut BoxIo, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; socks::MAX_MESSAGE];
    let count = stream.read(&mut buffer).await.ok().filter(|&count| count > 0)?;
    bytes.extend_from_slice(&buffer[..count]);
    Some(())
}
