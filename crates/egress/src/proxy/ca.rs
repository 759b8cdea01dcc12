//! The certificate authority of a session: made in memory, for the one command that trusts it, gone with it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// Most certificates that are kept.
const MAX_LEAVES: usize = 256;
/// Days that certificates hold; a session does not last longer.
const DAYS: i64 = 7;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The library refused.
    #[error("cannot make a certificate for TLS inspection: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate cannot be served.
    #[error("cannot use the certificate for TLS inspection: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate authority whose key never leaves memory.
pub struct SessionCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// One key for all names: nobody but this session's command trusts any of them.
    leaf_key: KeyPair,
    leaves: RefCell<Leaves>,
}

#[derive(Default)]
struct Leaves {
    known: HashMap<String, Arc<ServerConfig>>,
    order: VecDeque<String>,
}

impl fmt::Debug for SessionCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionCa(..)")
    }
}

impl SessionCa {
    /// A new authority.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn new() -> Result<Self, CaError> {
        let mut params = valid(CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, "Varvel session");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            leaf_key: KeyPair::generate()?,
            leaves: RefCell::default(),
        })
    }

    /// Its certificate in PEM, for the command's trust store.
    #[must_use]
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// TLS for a server that is taken to be `host`.
    pub(super) fn server(&self, host: &str) -> Result<Arc<ServerConfig>, CaError> {
        if let Some(known) = self.leaves.borrow().known.get(host) {
            return Ok(Arc::clone(known));
        }
        let config = Arc::new(self.make(host)?);
        let mut leaves = self.leaves.borrow_mut();
        if leaves.order.len() >= MAX_LEAVES
            && let Some(oldest) = leaves.order.pop_front()
        {
            leaves.known.remove(&oldest);
        }
        leaves.known.insert(host.to_owned(), Arc::clone(&config));
        leaves.order.push_back(host.to_owned());
        Ok(config)
    }

    fn make(&self, host: &str) -> Result<ServerConfig, CaError> {
        let mut params = valid(CertificateParams::new([host.to_owned()])?);
        // A common name has 64 characters at most; the name that counts is the alternative one.
        params.distinguished_name.push(DnType::CommonName, "Varvel inspection");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn valid(mut params: CertificateParams) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Clocks differ.
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(DAYS);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_and_bounded() {
        let ca = SessionCa::new().unwrap();
        assert!(ca.pem().starts_with("-----BEGIN CERTIFICATE-----"));
        let first = ca.server("a.test").unwrap();
        assert!(Arc::ptr_eq(&first, &ca.server("a.test").unwrap()));
        for number in 0..MAX_LEAVES {
            ca.server(&format!("{number}.test")).unwrap();
        }
        assert_eq!(ca.leaves.borrow().known.len(), MAX_LEAVES);
        assert!(!Arc::ptr_eq(&first, &ca.server("a.test").unwrap()));
        assert!(ca.server("10.0.0.1").is_ok() && ca.server("2001:db8::1").is_ok());
        assert_ne!(ca.pem(), SessionCa::new().unwrap().pem());
    }
}
