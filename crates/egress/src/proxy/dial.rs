//! From an authorised name to a connection: resolve, check every address, dial exactly those.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use action::{Connect, Decision, Destination, Verdict};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gate::Authorized;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Proxy;
use super::refusal::Stop;

/// Most addresses of one name.
const MAX_ADDRESSES: usize = 64;
/// How many of them are tried.
const MAX_TRIES: usize = 8;
/// Head start of one address before the next is tried as well (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// Finds the addresses of names. Asked only about names that were allowed.
pub trait Resolver {
    /// The addresses of `host`, in the order in which they should be tried.
    fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + 'a>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + 'a>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).take(MAX_ADDRESSES + 1).collect())
        })
    }
}

impl Proxy<'_> {
    /// Connects to an authorised destination. `only` is the address that must be among those of the name, if the
    /// client has chosen one already.
    pub(super) async fn dial(
        &self,
        authorized: &Authorized<Connect>,
        only: Option<IpAddr>,
    ) -> Result<(TcpStream, SocketAddr), Stop> {
        let connect = authorized.action();
        let at = &connect.destination;
        let work = async {
            let addresses = self.addresses_of(at).await?;
            // One bad address spoils the answer: a name that leads to both is made to deceive.
            for &address in &addresses {
                let decision = (self.settings.addresses)(&self.settings.rules, at, address);
                if decision.verdict != Verdict::Allow {
                    return Err(self.refuse(connect, decision));
                }
            }
            let addresses = match only {
                None => addresses,
                Some(meant) if addresses.contains(&meant) => vec![meant],
                Some(meant) => {
                    let reason =
                        format!("the client connects to {meant}, which is no address of {}", at.host);
                    let decision = Decision::new(Verdict::Deny, "network.address-mismatch", reason);
                    return Err(self.refuse(connect, decision));
                }
            };
            connect_any(at, &addresses).await
        };
        tokio::select! {
            result = timeout(self.settings.limits.connect, work) => result.unwrap_or_else(|_| {
                Err(Stop::Unreachable { at: at.to_string(), why: "no answer in time".to_owned() })
            }),
            () = self.ended() => Err(Stop::Ended),
        }
    }

    async fn addresses_of(&self, at: &Destination) -> Result<Vec<IpAddr>, Stop> {
        if let Ok(address) = at.host.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let failed = |why: String| Stop::NoAddress { host: at.host.clone(), why };
        let found =
            self.settings.resolver.resolve(&at.host).await.map_err(|error| failed(error.to_string()))?;
        if found.is_empty() || found.len() > MAX_ADDRESSES {
            return Err(failed(format!("{} addresses", found.len())));
        }
        Ok(found.into_iter().map(|address| address.to_canonical()).collect())
    }
}

/// The first of the addresses that takes a connection; each gets a head start over the next.
async fn connect_any(at: &Destination, addresses: &[IpAddr]) -> Result<(TcpStream, SocketAddr), Stop> {
    let mut tries: FuturesUnordered<_> = (0u32..)
        .zip(addresses.iter().take(MAX_TRIES))
        .map(|(place, &address)| async move {
            tokio::time::sleep(HEAD_START * place).await;
            let address = SocketAddr::new(address, at.port);
            let stream = TcpStream::connect(address).await?;
            // Small messages go at once; if that cannot be set, they go later.
            let _ = stream.set_nodelay(true);
            Ok::<_, io::Error>((stream, address))
        })
        .collect();
    let mut why = "no address".to_owned();
    while let Some(result) = tries.next().await {
        match result {
            Ok(connected) => return Ok(connected),
            Err(error) => why = error.to_string(),
        }
    }
    Err(Stop::Unreachable { at: at.to_string(), why })
}
