//! TLS that is opened.

use std::sync::Arc;

use egress::{ProxySettings, SessionCa};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::*;

/// A server with TLS for `server.test`, and the root that signed for it.
fn tls_server() -> (u16, CertificateDer<'static>, std::sync::mpsc::Receiver<String>) {
    let made = rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
    let root = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let port = server(move |stream| {
        let told = told.lock().unwrap().clone();
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        serve_http(rustls::StreamOwned::new(session, stream), &told);
    });
    (port, root, heard)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// TLS as a command does it that trusts the session's certificate.
async fn secure(stream: TcpStream, name: &str, pem: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config)).connect(name.to_owned().try_into().unwrap(), stream).await
}

fn inspecting(text: &str, root: Option<CertificateDer<'static>>) -> (ProxySettings, String) {
    let ca = SessionCa::new().unwrap();
    let pem = ca.pem();
    let settings = settings(text);
    (ProxySettings { ca: Some(ca.into()), extra_roots: root.into_iter().collect(), ..settings }, pem)
}

#[test]
fn rules_about_paths_hold_inside_tls() {
    let (port, root, heard) = tls_server();
    let text = format!(
        "allow: GET https://server.test:{port}/pub/**\nprivate: server.test\ninspect: server.test:{port}"
    );
    let (settings, pem) = inspecting(&text, Some(root));
    let ((), after) = run(settings, async |place| {
        let tunnel = connect(place, &format!("server.test:{port}")).await.unwrap();
        let mut stream = secure(tunnel, "server.test", &pem).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        for (line, status) in [
            ("GET /pub/a?q=1", "200"),
            ("GET /private", "403"),
            ("POST /pub/a", "403"),
            ("GET /pub/%2e%2e/private", "403"),
            ("GET /pub/b", "200"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            assert_eq!(head.split(' ').nth(1), Some(status), "{line}: {head} {body}");
        }
        let request = "GET /pub/a HTTP/1.1\r\nHost: other.test\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.contains("network.host-mismatch"));
    });
    let heard: Vec<_> = heard.try_iter().collect();
    assert_eq!(heard.len(), 2, "{heard:?}");
    let intent = after.of("intent")[0];
    assert_eq!(
        (intent["action"]["path"].as_str(), intent["action"]["via"].as_str()),
        (Some("/pub/a"), Some("tunnel"))
    );
    assert!(after.of("outcome")[0]["bytes_in"].as_u64().unwrap() > 100);
}

#[test]
fn without_inspection_a_rule_about_paths_says_what_it_needs() {
    let text = "allow: https://server.test/pub/**\nprivate: server.test";
    run(settings(text), async |place| {
        let (head, body) = connect(place, "server.test:443").await.unwrap_err();
        assert!(head.contains("network.unseen-request") && body.contains("--inspect server.test"), "{body}");
    });
}

#[test]
fn a_server_that_cannot_be_verified_is_not_spoken_to() {
    let (port, _root, heard) = tls_server();
    let text = format!("allow: server.test:{port}\nprivate: server.test\ninspect: server.test:{port}");
    let other = rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
    let (settings, pem) = inspecting(&text, Some(other.cert.der().clone()));
    let ((), after) = run(settings, async |place| {
        let tunnel = connect(place, &format!("server.test:{port}")).await.unwrap();
        let mut stream = secure(tunnel, "server.test", &pem).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 502") && body.contains("no verified TLS"), "{head} {body}");
    });
    assert_eq!(heard.try_iter().count(), 0);
    assert_eq!(after.of("outcome")[0]["status"], "failed");
}

#[test]
fn what_is_inspected_has_to_be_tls_for_that_host() {
    let text = "allow: *.test:*\nprivate: *.test\ninspect: server.test:8443";
    let (settings, pem) = inspecting(text, None);
    let ((), after) = run(settings, async |place| {
        let tunnel = connect(place, "server.test:8443").await.unwrap();
        assert!(secure(tunnel, "other.test", &pem).await.is_err());
        let mut tunnel = connect(place, "server.test:8443").await.unwrap();
        tunnel.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(rest(&mut tunnel).await, "");
    });
    assert_eq!(after.rules(), ["network.sni-mismatch", "network.not-tls"]);
    assert!(after.of("intent").is_empty());
}

#[test]
fn inspection_needs_an_authority() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind((LOCAL, 0)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let actor =
            action::Actor { person: "p".into(), agent: "a".into(), session: action::SessionId::new("s") };
        let gate = gate::Gate::new(
            actor,
            policy::Policy::new(action::Autonomy::Auto),
            gate::Limits::default(),
            Box::new(gate::Nobody),
            ledger::Ledger::open(&directory.path().join("ledger")).unwrap(),
        );
        let doors = egress::Doors { proxy: listener, direct: Vec::new(), dns: None };
        assert!(egress::Proxy::new(&gate, settings("inspect: a.test"), doors).is_err());
    });
}
