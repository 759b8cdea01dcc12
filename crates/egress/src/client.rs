//! Clients that are bound to one destination.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use action::{Destination, ModelCall, Network, Reach};
use gate::{Authorized, Report};
use ledger::{Outcome, Status};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why something could not be sent or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// Not an http or https address.
    #[error("{url:?} is not a usable address: {why}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The client could not be built.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The connection failed or broke.
    #[error("cannot reach {destination}: {why}")]
    Unreachable {
        /// Where.
        destination: String,
        /// The innermost cause.
        why: String,
    },
    /// The server answered with an error status.
    #[error("{destination} answered {status}")]
    Status {
        /// Where.
        destination: String,
        /// HTTP status code.
        status: u16,
    },
    /// What arrived could not be stored.
    #[error("cannot store what was fetched: {0}")]
    Store(#[source] io::Error),
}

impl Report for EgressError {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed).with("error", self.to_string())
    }
}

/// Takes an address apart: where it leads, and whether it is encrypted.
///
/// # Errors
/// If it is not an absolute http or https URL, or holds a password.
pub fn destination(url: &str) -> Result<(Destination, bool), EgressError> {
    let bad = |why| EgressError::Address { url: url.to_owned(), why };
    let parsed = Url::parse(url).map_err(|_| bad("it does not parse"))?;
    let encrypted = match parsed.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(bad("only http and https are supported")),
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(bad("it holds a user name or password; keys belong in the vault"));
    }
    let host = parsed.host_str().ok_or_else(|| bad("it names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = parsed.port_or_known_default().ok_or_else(|| bad("it names no port"))?;
    Ok((Destination { host, port }, encrypted))
}

/// The clients of a session, one a destination, so that connections are reused.
#[derive(Debug, Default)]
pub struct Egress {
    clients: Mutex<HashMap<(Destination, bool), reqwest::Client>>,
}

impl Egress {
    /// The client for an authorised model call to a server; `None` when the model is embedded.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn for_model(
        &self,
        call: &Authorized<ModelCall>,
        encrypted: bool,
    ) -> Result<Option<reqwest::Client>, EgressError> {
        match &call.action().reach {
            Reach::Embedded => Ok(None),
            Reach::Server(destination) => self.client(destination, encrypted).map(Some),
        }
    }

    /// The client for an authorised fetch.
    pub(crate) fn for_fetch(
        &self,
        fetch: &Authorized<Network>,
        encrypted: bool,
    ) -> Result<reqwest::Client, EgressError> {
        self.client(&fetch.action().destination, encrypted)
    }

    fn client(&self, destination: &Destination, encrypted: bool) -> Result<reqwest::Client, EgressError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (destination.clone(), encrypted);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(destination, encrypted)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build(destination: &Destination, encrypted: bool) -> Result<reqwest::Client, EgressError> {
    // Ours is the only TLS library linked; a second call is harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .https_only(encrypted)
        .user_agent(concat!("varvel/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(OnlyHost(destination.host.clone()));
    let builder = if encrypted {
        builder
    } else {
        // Reading the system's certificates takes longer than a whole request on this machine.
        let nothing_trusted = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        builder.tls_backend_preconfigured(nothing_trusted)
    };
    builder.build().map_err(|error| EgressError::Tls(innermost(&error)))
}

/// Resolves one name and refuses every other.
#[derive(Debug)]
struct OnlyHost(String);

impl Resolve for OnlyHost {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = name.as_str().eq_ignore_ascii_case(&self.0);
        let host = name.as_str().to_owned();
        Box::pin(async move {
            if !allowed {
                let why = format!("{host} is not the host that was authorised");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why).into());
            }
            let addresses: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The message at the bottom of a chain of errors: the one that says what happened.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let (at, encrypted) = destination("https://API.Example.org/v1").unwrap();
        assert_eq!((at.to_string().as_str(), encrypted), ("api.example.org:443", true));
        let (at, encrypted) = destination("http://[::1]:8080").unwrap();
        assert_eq!((at.to_string().as_str(), encrypted, at.is_loopback()), ("[::1]:8080", false, true));
        for bad in ["ftp://x", "example.org", "https://u:p@example.org", "file:///etc/passwd", ""] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn other_names_are_not_resolved() {
        let only = OnlyHost("localhost".into());
        assert!(only.resolve("localhost".parse().unwrap()).await.is_ok());
        let Err(error) = only.resolve("example.org".parse().unwrap()).await else { panic!("resolved") };
        assert!(error.to_string().contains("not the host"), "{error}");
    }
}
