//! Connections to made-up addresses. Only inside a network namespace can one really connect to them.

use std::net::{Ipv4Addr, SocketAddr};

use action::{Actor, Autonomy, SessionId};
use gate::{Gate, Limits, Nobody};
use ledger::{Entries, Ledger};
use policy::{NetworkConfig, NetworkRules, Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::hello::tests::sample;
use super::super::{Doors, ProxyLimits, ProxySettings};
use super::*;

/// What a client that meant `name` at `port` gets, and the rules of what was refused. The server echoes.
async fn meant(name: &str, port: u16, bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let listen = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = NetworkConfig {
        allow: vec!["server.test:*".into()],
        private: vec!["server.test".into()],
        ..NetworkConfig::default()
    };
    let rules = NetworkRules::from_config(&config, "test").unwrap();
    let actor = Actor { person: "p".into(), agent: "a".into(), session: SessionId::new("s") };
    let policy = Policy::new(Autonomy::Auto).with_network(rules.clone());
    let ledger = Ledger::open(&directory.path().join("ledger")).unwrap();
    let gate = Gate::new(actor, policy, Limits::default(), Box::new(Nobody), ledger);
    struct Home;
    impl super::super::Resolver for Home {
        fn resolve<'a>(
            &'a self,
            _: &'a str,
        ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + 'a>> {
            Box::pin(std::future::ready(Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])))
        }
    }
    let limits = ProxyLimits { header: Duration::from_millis(300), ..ProxyLimits::default() };
    let settings = ProxySettings { resolver: Box::new(Home), limits, ..ProxySettings::new(rules) };
    let proxy = Proxy::new(&gate, settings, Doors { proxy: listen(), direct: vec![], dns: None }).unwrap();
    let address = proxy.names.borrow_mut().address_of(name);

    let pair = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut client = TcpStream::connect(pair.local_addr().unwrap()).await.unwrap();
    let (arrived, _) = pair.accept().await.unwrap();
    let mut back = Vec::new();
    let talk = async {
        client.write_all(bytes).await.unwrap();
        // Who closes its half of HTTP does not want an answer.
        if !bytes.ends_with(b"\r\n\r\n") {
            client.shutdown().await.unwrap();
        }
        // A reset is an end as well.
        let _ = client.read_to_end(&mut back).await;
    };
    tokio::join!(proxy.direct(arrived, SocketAddr::new(IpAddr::V4(address), port)), talk);
    drop(proxy);
    let records: Vec<_> = Entries::open(&directory.path().join("ledger")).unwrap().collect();
    let rules =
        records.iter().map(|entry| entry["record"]["decision"]["rule"].as_str().unwrap_or("").to_owned());
    (back, rules.filter(|rule| !rule.is_empty()).collect())
}

async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    port
}

#[tokio::test]
async fn tls_has_to_name_what_was_resolved() {
    let port = echo().await;
    let right = sample(&["server.test"]);
    let (back, rules) = meant("server.test", port, &right).await;
    assert_eq!((back, rules[0].starts_with("network.allow")), (right.clone(), true));
    for wrong in [sample(&["other.test"]), sample(&[]), sample(&["a b"])] {
        let (back, rules) = meant("server.test", port, &wrong).await;
        assert_eq!((back.len(), rules), (0, vec!["network.sni-mismatch".to_owned()]));
    }
    let (back, rules) = meant("server.test", 443, b"SSH-2.0-x").await;
    assert_eq!((back.len(), rules), (0, vec!["network.not-tls".to_owned()]));
    let (back, rules) = meant("other.test", port, &sample(&["other.test"])).await;
    assert_eq!((back.len(), rules), (0, vec!["network.default-deny".to_owned()]));
}

#[tokio::test]
async fn http_has_to_name_it_too_and_is_told() {
    let port = echo().await;
    let request = |host: &str| format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for port in [port, 80] {
        let wrong = request("other.test");
        let (back, rules) = meant("server.test", port, wrong.as_bytes()).await;
        assert!(String::from_utf8_lossy(&back).starts_with("HTTP/1.1 403"), "{port}");
        assert_eq!(rules, ["network.host-mismatch"]);
    }
    let (back, rules) = meant("other.test", 80, request("other.test").as_bytes()).await;
    let back = String::from_utf8_lossy(&back).into_owned();
    assert!(back.starts_with("HTTP/1.1 403") && back.contains("--allow other.test:80"), "{back}");
    assert_eq!(rules, ["network.default-deny"]);
    // Not HTTP at all, on the port of HTTP.
    let (back, rules) = meant("server.test", 80, b"get / HTTP/1.1\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&back).starts_with("HTTP/1.1 400"), "{back:?}");
    assert!(rules.is_empty());
}

#[tokio::test]
async fn other_protocols_go_by_name_and_port() {
    let port = echo().await;
    let (back, rules) = meant("server.test", port, b"SSH-2.0-x\r\n").await;
    assert_eq!((back.as_slice(), rules.len()), (&b"SSH-2.0-x\r\n"[..], 1));
}
