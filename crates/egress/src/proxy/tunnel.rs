//! Connections whose inside is not looked at, other than the server name of TLS.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use action::{Connect, Decision, Destination, Verdict, Via};
use gate::Authorized;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use policy::network::normal_host;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Proxy;
use super::hello::{Hello, HelloError, MAX_HELLO, hello};
use super::http::Origin;
use super::refusal::{Carried, Failure, Refusal, Stop, Traffic};
use super::socks;
use super::stream::{BoxIo, Rewound};
use super::traffic::{Counted, Counts};

/// Buffer of a tunnel for each direction, in bytes.
const BUFFER: usize = 32 * 1024;

/// How a client waits to be connected.
pub(super) enum Opening {
    /// HTTP CONNECT: the answer, and the connection that there is after it.
    Http(oneshot::Sender<Result<(), Refusal>>, OnUpgrade),
    /// SOCKS5, after the request.
    Socks(BoxIo),
    /// It believes to be connected already.
    Direct(BoxIo),
}

impl Opening {
    /// Tells the client that it is connected.
    pub(super) async fn accept(self) -> io::Result<BoxIo> {
        match self {
            Self::Http(reply, upgrade) => {
                reply.send(Ok(())).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
                let upgraded = upgrade.await.map_err(io::Error::other)?;
                Ok(Box::new(TokioIo::new(upgraded)))
            }
            Self::Socks(mut stream) => {
                stream.write_all(&socks::reply(socks::SUCCEEDED)).await?;
                Ok(stream)
            }
            Self::Direct(stream) => Ok(stream),
        }
    }

    /// Tells the client that it is not. One that went away is not told.
    pub(super) async fn refuse(self, refusal: Refusal) {
        match self {
            Self::Http(reply, _) => drop(reply.send(Err(refusal))),
            Self::Socks(mut stream) => {
                let code = match refusal.status {
                    403 => socks::NOT_ALLOWED,
                    502 | 504 => socks::UNREACHABLE,
                    _ => socks::FAILURE,
                };
                let _ = stream.write_all(&socks::reply(code)).await;
                let _ = stream.shutdown().await;
            }
            Self::Direct(mut stream) => {
                let _ = stream.shutdown().await;
            }
        }
    }
}

/// The first bytes of a client, and what they are.
pub(super) struct First {
    pub(super) bytes: Vec<u8>,
    pub(super) hello: Result<Hello, HelloError>,
}

impl First {
    /// The stream with the bytes in front again.
    pub(super) fn put_back(bytes: Vec<u8>, stream: BoxIo) -> BoxIo {
        if bytes.is_empty() { stream } else { Box::new(Rewound::new(bytes, stream)) }
    }
}

impl Proxy<'_> {
    /// Carries a tunnel from the wish to its end. `only` as in [`Proxy::dial`].
    pub(super) async fn tunnel(
        &self,
        at: Destination,
        via: Via,
        only: Option<IpAddr>,
        patience: Duration,
        opening: Opening,
    ) {
        let inspected = self.settings.rules.inspects(&at);
        // What can be looked into is decided on request by request.
        if at.port == 80 || inspected {
            let Ok(stream) = opening.accept().await else { return };
            let tls = inspected && at.port != 80;
            let origin = Origin { at, via, tls, only };
            return if tls {
                self.inspected(stream, origin).await
            } else {
                self.http(stream, Some(origin)).await
            };
        }
        let connect = Connect { destination: at.clone(), via, method: None, path: None };
        let mut opening = Some(opening);
        let result = match self.check_budget(&connect) {
            Err(stop) => Err(gate::GateError::Failed(Failure::from(stop))),
            Ok(()) => {
                let carry = async |authorized| self.carry(authorized, only, patience, &mut opening).await;
                self.gate.perform(connect, carry).await
            }
        };
        match result {
            Ok(_) => self.count_made(),
            Err(error) => {
                self.note(&at, &error);
                if let Some(opening) = opening.take() {
                    opening.refuse(Refusal::of(&at, &error)).await;
                }
            }
        }
    }

    /// Dials, lets the client speak first, looks at what it says, and copies until the end.
    async fn carry(
        &self,
        authorized: Authorized<Connect>,
        only: Option<IpAddr>,
        patience: Duration,
        opening: &mut Option<Opening>,
    ) -> Result<Carried, Failure> {
        let clock = Instant::now();
        let (stream, address) = self.dial(&authorized, only).await?;
        let connect = authorized.into_action();
        let counts = Arc::new(Counts::default());
        let mut server = Counted::new(stream, Arc::clone(&counts), Arc::clone(&self.budget));
        let traffic = || Traffic {
            address: Some(address),
            out: counts.out(),
            inward: counts.inward(),
            time: clock.elapsed(),
        };
        let failed = |stop| Failure { stop, traffic: traffic() };

        let Some(opening) = opening.take() else { return Err(failed(Stop::Client)) };
        let start = async {
            let mut client = opening.accept().await.map_err(|_| Stop::Client)?;
            let first = self.first(&mut client, connect.destination.port, patience).await?;
            if let Some(decision) = check_first(&connect.destination, &first) {
                return Err(self.refuse(&connect, decision));
            }
            Ok(First::put_back(first.bytes, client))
        };
        let client = tokio::select! {
            client = start => client,
            () = self.ended() => Err(Stop::Ended),
        };
        let mut client = client.map_err(failed)?;

        let copied = tokio::select! {
            copied = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER) => copied,
            () = counts.idle(self.settings.limits.idle) => return Err(failed(Stop::Idle)),
            () = self.ended() => return Err(failed(Stop::Ended)),
        };
        match copied {
            Ok(_) => Ok(Carried { traffic: traffic(), status: None, reset: false }),
            Err(_) if self.budget.is_spent() => Err(failed(self.refuse(&connect, self.spent()))),
            Err(_) => Ok(Carried { traffic: traffic(), status: None, reset: true }),
        }
    }

    /// Reads what a client says first. It need not say anything, other than on port 443, where it has to begin TLS.
    pub(super) async fn first(
        &self,
        client: &mut BoxIo,
        port: u16,
        patience: Duration,
    ) -> Result<First, Stop> {
        let header = Instant::now() + self.settings.limits.header;
        let mut until = if port == 443 { header } else { Instant::now() + patience };
        let mut bytes = Vec::new();
        loop {
            match hello(&bytes) {
                Ok(Some(hello)) => return Ok(First { bytes, hello: Ok(hello) }),
                Ok(None) => {}
                Err(error) => return Ok(First { bytes, hello: Err(error) }),
            }
            let mut buffer = [0; 4096];
            let room = buffer.len().min(MAX_HELLO - bytes.len());
            match timeout_at(until, client.read(&mut buffer[..room])).await {
                Ok(Ok(count)) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                Ok(Err(_)) => return Err(Stop::Client),
                // Silence or the end: what began as TLS and stays half is no TLS.
                Ok(Ok(_)) | Err(_) => {
                    let error = if bytes.is_empty() { HelloError::NotTls } else { HelloError::Malformed };
                    return Ok(First { bytes, hello: Err(error) });
                }
            }
            // The rest of a beginning has the time that headers have.
            until = header;
        }
    }
}

/// Whether the first bytes fit the destination.
fn check_first(at: &Destination, first: &First) -> Option<Decision> {
    match &first.hello {
        Ok(hello) => check_name(at, hello),
        Err(HelloError::NotTls) if at.port != 443 => None,
        Err(error) => Some(not_tls(at, *error)),
    }
}

/// Something else than TLS where only TLS goes.
pub(super) fn not_tls(at: &Destination, error: HelloError) -> Decision {
    let reason = format!("to port {} only TLS goes, and {error}", at.port);
    Decision::new(Verdict::Deny, "network.not-tls", reason)
}

/// Whether TLS asks for the host that the connection is for. No name is fine: the address was checked.
pub(super) fn check_name(at: &Destination, hello: &Hello) -> Option<Decision> {
    let name = hello.server_name.as_ref()?;
    if normal_host(name).is_ok_and(|name| name == at.host) {
        return None;
    }
    Some(sni_mismatch(at, Some(name)))
}

pub(super) fn sni_mismatch(at: &Destination, name: Option<&str>) -> Decision {
    let reason = match name {
        Some(name) => format!("TLS asks for {name:?} in a connection to {}", at.host),
        None => format!("TLS names no server in a connection to {}", at.host),
    };
    Decision::new(Verdict::Deny, "network.sni-mismatch", reason)
}
