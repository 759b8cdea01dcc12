//! CONNECT and SOCKS5.

use std::cell::Cell;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::rc::Rc;

use action::{Decision, Verdict};
use egress::ProxySettings;
use gate::{Answer, Approver, Question};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

async fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.is_ok() && &back == b"hello"
}

async fn socks(place: &Place, kind: u8, address: &[u8], port: u16) -> (u8, TcpStream) {
    let mut stream = TcpStream::connect(place.proxy).await.unwrap();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    assert_eq!(method, [5, 0]);
    let request = [&[5, 1, 0, kind][..], address, &port.to_be_bytes()].concat();
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    (reply[1], stream)
}

#[test]
fn connect_carries_bytes_and_they_are_on_record() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut stream = connect(place, &format!("Server.test:{port}")).await.unwrap();
        assert!(echoes(&mut stream).await);
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
    let intent = after.of("intent")[0];
    assert_eq!(intent["action"]["destination"]["host"], "server.test");
    assert_eq!(intent["action"]["via"], "tunnel");
    let outcome = after.of("outcome")[0];
    assert_eq!((outcome["bytes_out"].as_u64(), outcome["bytes_in"].as_u64()), (Some(5), Some(5)));
    assert_eq!(outcome["address"], format!("127.0.0.1:{port}"));
    assert_eq!((after.report.bytes_out, after.report.bytes_in, after.report.made), (5, 5, 1));
}

#[test]
fn a_client_that_is_gone_when_the_command_ends_still_has_its_numbers() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
        assert!(echoes(&mut stream).await);
    });
    assert_eq!(after.of("outcome")[0]["bytes_in"].as_u64(), Some(5));
}

#[test]
fn what_is_still_open_when_the_command_ends_is_stopped_with_its_numbers() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let (_kept, after) = run(settings(&text), async |place| {
        let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
        assert!(echoes(&mut stream).await);
        stream
    });
    let outcome = after.of("outcome")[0];
    assert_eq!((outcome["status"].as_str(), outcome["bytes_out"].as_u64()), (Some("stopped"), Some(5)));
}

#[test]
fn refusals_say_what_to_do() {
    let text = "allow: server.test\ndeny: denied.test:*\nask: asked.test";
    let ((), after) = run(settings(text), async |place| {
        for (to, rule, word) in [
            ("unknown.test:443", "network.default-deny", "--allow unknown.test:443"),
            ("denied.test:443", "network.deny (test: denied.test:*)", "denies it"),
            ("asked.test:443", "network.ask (test: asked.test)", "nobody is there"),
            ("server.test:443", "network.private-address", "--allow-private server.test"),
            ("127.0.0.1:443", "network.private-address", "loopback"),
            ("[::1]:443", "network.private-address", "loopback"),
            ("[::ffff:127.0.0.1]:443", "network.private-address", "loopback"),
            ("[::ffff:a9fe:a9fe]:443", "network.private-address", "metadata"),
            ("169.254.169.254:443", "network.private-address", "metadata"),
            ("localhost:443", "network.default-deny", "--allow localhost:443"),
        ] {
            let (head, body) = connect(place, to).await.unwrap_err();
            assert!(head.starts_with("HTTP/1.1 403"), "{to}: {head}");
            assert!(head.contains(&format!("x-varvel-rule: {rule}\r\n")), "{to}: {head}");
            assert!(body.contains(word) && body.starts_with("varvel: connection to "), "{to}: {body}");
        }
    });
    assert_eq!(after.of("refused").len(), 10, "each of them is on record");
    assert_eq!(after.of("intent").len(), 1, "only the name that a rule allowed was resolved");
}

#[test]
fn names_that_lead_home_are_refused() {
    // Stands for a public address, so that nothing leaves this machine.
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    let public = IpAddr::V4(PUBLIC);
    let listener = std::net::TcpListener::bind((PUBLIC, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let at_home = std::net::TcpListener::bind((LOCAL, port)).unwrap();
    at_home.set_nonblocking(true).unwrap();
    let resolver = Table::default()
        .with("rebinding.test", &[&[public], &[LOCAL]])
        .with("mixed.test", &[&[public, LOCAL]])
        .with("mapped.test", &[&[public, IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())]])
        .with("private.test", &[&[IpAddr::from([10, 0, 0, 1])]])
        .with("reserved.test", &[&[IpAddr::from([192, 0, 2, 1])]]);
    let settings = ProxySettings {
        resolver: Box::new(resolver),
        addresses: |rules, at, address| match address {
            IpAddr::V4(PUBLIC) => Decision::new(Verdict::Allow, "test", ""),
            other => rules.decide_address(at, other),
        },
        ..settings("allow: *.test:*")
    };
    let ((), after) = run(settings, async |place| {
        // Resolved once: the address that was checked is the one that is dialled.
        assert!(connect(place, &format!("rebinding.test:{port}")).await.is_ok());
        for name in ["rebinding.test", "mixed.test", "mapped.test", "private.test", "reserved.test"] {
            let (head, body) = connect(place, &format!("{name}:{port}")).await.unwrap_err();
            assert!(head.contains("network.private-address"), "{name}: {head} {body}");
        }
    });
    assert!(listener.accept().is_ok(), "the first one arrived");
    assert!(at_home.accept().is_err(), "nothing came home");
    assert_eq!(after.of("refused").len(), 5);
    assert!(after.of("outcome").iter().all(|outcome| outcome["bytes_out"] == 0));
    assert!(after.of("outcome").iter().any(|outcome| outcome["rule"] == "network.private-address"));
}

#[test]
fn literals_can_be_allowed_by_name_of_their_address() {
    let port = echo();
    let six = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
    let text = format!("allow: 127.0.0.0/8:{port}; [::1]:*");
    let ((), after) = run(settings(&text), async |place| {
        for literal in ["127.0.0.1", "[::ffff:127.0.0.1]"] {
            let mut stream = connect(place, &format!("{literal}:{port}")).await.unwrap();
            assert!(echoes(&mut stream).await, "{literal}");
        }
        if let Some(six) = &six {
            let at = six.local_addr().unwrap();
            assert!(connect(place, &at.to_string()).await.is_ok());
        }
    });
    assert_eq!(after.of("intent")[1]["action"]["destination"]["host"], "127.0.0.1");
}

#[test]
fn socks5_takes_names_and_addresses() {
    let port = echo();
    let text = format!("allow: server.test:{port}; 127.0.0.1:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let name = [&[11][..], b"server.test"].concat();
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        for (kind, address) in [(3, &name[..]), (1, &[127, 0, 0, 1][..]), (4, &mapped[..])] {
            let (code, mut stream) = socks(place, kind, address, port).await;
            assert_eq!(code, 0);
            assert!(echoes(&mut stream).await);
        }
        assert_eq!(socks(place, 3, &[&[10][..], b"other.test"].concat(), port).await.0, 2);
        assert_eq!(socks(place, 4, &Ipv6Addr::LOCALHOST.octets(), port).await.0, 2);
        let mut bind = TcpStream::connect(place.proxy).await.unwrap();
        bind.write_all(&[5, 1, 0, 5, 2, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
        let mut reply = [0; 4];
        bind.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, [5, 0, 5, 7], "BIND is not supported");
    });
    assert_eq!(after.of("intent")[0]["action"]["via"], "socks");
    assert_eq!(after.report.denied.len(), 2);
}

#[test]
fn servers_that_speak_first_do() {
    let port = server(|mut stream| {
        stream.write_all(b"220 ready\r\n").unwrap();
        let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    run(settings(&text), async |place| {
        let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
        let mut banner = [0; 11];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"220 ready\r\n");
        assert!(echoes(&mut stream).await);
    });
}

#[test]
fn tls_has_to_ask_for_the_host_of_the_tunnel() {
    let seen = Rc::new(Cell::new(0));
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let port = server(move |mut stream| {
        let mut buffer = [0; 600];
        let count = std::io::Read::read(&mut stream, &mut buffer).unwrap_or(0);
        told.lock().unwrap().send(count).unwrap();
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        for (name, passes) in [("server.test", true), ("SERVER.test", true), ("other.test", false)] {
            let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
            stream.write_all(&hello(name)).await.unwrap();
            assert_eq!(rest(&mut stream).await, "");
            seen.set(seen.get() + usize::from(passes));
        }
    });
    let lengths: Vec<_> = heard.try_iter().collect();
    assert_eq!(lengths.iter().filter(|&&length| length > 0).count(), seen.get(), "{lengths:?}");
    assert_eq!(after.rules(), ["network.sni-mismatch"]);
    let refused = after.of("refused")[0];
    assert_eq!(refused["decision"]["rule"], "network.sni-mismatch");
    let outcome = after.of("outcome")[2];
    assert_eq!(
        (outcome["bytes_out"].as_u64(), outcome["rule"].as_str()),
        (Some(0), Some("network.sni-mismatch"))
    );
}

/// A ClientHello with a server name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Says the same every time, and counts.
struct Says(Answer, Rc<Cell<usize>>);

impl Approver for Says {
    fn ask<'a>(&'a self, _: Question<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>> {
        self.1.set(self.1.get() + 1);
        Box::pin(async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            self.0.clone()
        })
    }
}

#[test]
fn a_person_is_asked_once_for_many_connections() {
    let port = echo();
    for (answer, works) in [(Answer::Session, true), (Answer::No { instead: None }, false)] {
        let count = Rc::new(Cell::new(0));
        let says = Box::new(Says(answer, Rc::clone(&count)));
        let ((), after) = run_asking(settings("private: server.test"), says, async |place| {
            let to = format!("server.test:{port}");
            let many = (0..20).map(|_| connect(place, &to));
            for result in futures_util::future::join_all(many).await {
                assert_eq!(result.is_ok(), works);
            }
        });
        assert_eq!(count.get(), 1);
        let kind = if works { "intent" } else { "refused" };
        assert_eq!(after.of(kind).len(), 20);
    }
}
