//! TLS that is opened: a certificate of the session towards the client, a verified connection to the real server.

use std::sync::Arc;

use action::Connect;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Proxy;
use super::http::Origin;
use super::refusal::Stop;
use super::stream::{BoxIo, Io};
use super::tunnel::{First, check_name, not_tls};
use crate::client::innermost;

impl Proxy<'_> {
    /// Opens the TLS of a client and takes its requests.
    pub(super) async fn inspected(&self, mut client: BoxIo, origin: Origin) {
        let at = &origin.at;
        let Ok(first) = self.first(&mut client, 443, self.settings.limits.header).await else { return };
        let decision = match &first.hello {
            Ok(hello) => check_name(at, hello),
            Err(error) => Some(not_tls(at, *error)),
        };
        if let Some(decision) = decision {
            let connect = Connect { destination: at.clone(), via: origin.via, method: None, path: None };
            let stop = self.refuse(&connect, decision);
            return self.note_stop(at, &stop);
        }
        // `Proxy::new` made sure that there is one.
        let Some(ca) = &self.settings.ca else { return };
        let Ok(config) = ca.server(&at.host) else { return };
        let accept = TlsAcceptor::from(config).accept(First::put_back(first.bytes, client));
        // A client that does not trust the session's certificate leaves here.
        let Ok(Ok(stream)) = timeout(self.settings.limits.header, accept).await else { return };
        self.http(Box::new(stream), Some(origin)).await;
    }

    /// A verified TLS connection over `stream` to `host`.
    pub(super) async fn secure(&self, host: &str, stream: impl Io + 'static) -> Result<BoxIo, Stop> {
        let failed = |why: String| Stop::Tls { at: host.to_owned(), why };
        let config = self.client_tls.get_or_try_init(|| self.client_config()).await.map_err(failed)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
        let connect = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        match timeout(self.settings.limits.connect, connect).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(failed(innermost(&error))),
            Err(_) => Err(failed("no answer in time".to_owned())),
        }
    }

    /// Reads the system's roots: slow, so only once and only when something is inspected.
    async fn client_config(&self) -> Result<Arc<ClientConfig>, String> {
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let found = found.await.map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        // A store often has a few certificates that no library reads.
        let (added, _) = roots.add_parsable_certificates(found.certs);
        let own = self.settings.extra_roots.iter().cloned();
        let (extra, _) = roots.add_parsable_certificates(own);
        if added + extra == 0 {
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(format!("the system has no root certificates{why}"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
