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
mod head;
mod hello;
mod http;
mod inspect;
mod refusal;
mod report;
mod settings;
mod socks;
mod socks_client;
mod stream;
mod traffic;
mod tunnel;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use action::{Connect, Decision, Destination, Verdict};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use gate::{Gate, GateError};
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

pub use ca::{CaError, SessionCa};
pub use dial::{Resolver, SystemResolver};
pub use dns::{DnsError, Names, Question, answer as dns_answer, question as dns_question};
pub use hello::{Hello, HelloError, hello as tls_hello};
pub use report::{Denied, NetworkReport};
pub use settings::{Doors, ProxyLimits, ProxySettings};
pub use socks::{SocksError, greeting as socks_greeting, request as socks_request};

use refusal::{Failure, Refusal, Stop};
use stream::{BoxIo, Rewound};
use traffic::Budget;

/// Refusals of one command that are answered and recorded. After that, connections are closed and counted.
const MAX_REFUSALS: u64 = 1000;

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
        if self.report.borrow().refusals() >= MAX_REFUSALS {
            // It has been told often enough; each would be an entry of the ledger.
            self.report.borrow_mut().more += 1;
            return;
        }
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
