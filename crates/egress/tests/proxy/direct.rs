//! Programs that do not know of the proxy, and their questions about names.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::support::*;
use crate::tunnel::hello;

fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut bytes = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, kind, 0, 1]);
    bytes
}

async fn ask(place: &Place, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((LOCAL, 0)).await.unwrap();
    socket.send_to(bytes, place.dns).await.unwrap();
    let mut buffer = [0; 600];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer[..length].to_vec()
}

#[test]
fn names_get_made_up_addresses() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let answered = ask(place, &question("Server.test", 1)).await;
        let address: [u8; 4] = answered[answered.len() - 4..].try_into().unwrap();
        assert_eq!(address[0], 198);
        assert_eq!(ask(place, &question("server.test", 28)).await[7], 0, "no IPv6 address");
        // A client that resolved the name before it asks the proxy.
        let to = format!("{}:{port}", std::net::Ipv4Addr::from(address));
        assert!(connect(place, &to).await.is_ok());
        let (head, _) = connect(place, "198.19.255.1:443").await.unwrap_err();
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
        // What is no question is not answered, and does no harm.
        let socket = UdpSocket::bind((LOCAL, 0)).await.unwrap();
        for odd in [&[][..], &[0; 11], &[0xff; 600], &answered] {
            socket.send_to(odd, place.dns).await.unwrap();
        }
        assert_eq!(ask(place, &question("other.test", 1)).await[7], 1);
    });
    assert_eq!(after.of("intent")[0]["action"]["destination"]["host"], "server.test");
}

/// In these tests the address that is meant is the listener's own, on loopback.
#[test]
fn the_address_that_was_meant_is_the_destination() {
    let ((), after) = run(settings("allow: *:*"), async |place| {
        let at = place.direct[0];
        let http =
            exchange(at, format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes())
                .await;
        assert!(http.starts_with("HTTP/1.1 403") && http.contains("network.private-address"), "{http}");
        let mut other = TcpStream::connect(at).await.unwrap();
        other.write_all(b"something else").await.unwrap();
        assert_eq!(rest(&mut other).await, "", "closed");
    });
    assert_eq!(after.of("refused").len(), 2);
    assert_eq!(after.of("refused")[0]["action"]["via"], "direct");
}

#[test]
fn a_name_in_a_connection_to_an_address_has_to_lead_there() {
    let (_, heard) = http_server();
    let resolver = Table::default()
        .with("here.test", &[&[LOCAL]])
        .with("there.test", &[&[std::net::IpAddr::from([1, 1, 1, 1])]]);
    let settings = egress::ProxySettings {
        resolver: Box::new(resolver),
        ..settings("allow: there.test:*; here.test:*\nprivate: here.test")
    };
    let ((), after) = run(settings, async |place| {
        let at = place.direct[0];
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(&hello("there.test")).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
        let request =
            format!("GET / HTTP/1.1\r\nHost: there.test:{}\r\nConnection: close\r\n\r\n", at.port());
        let answered = exchange(at, request.as_bytes()).await;
        assert!(
            answered.starts_with("HTTP/1.1 403") && answered.contains("network.address-mismatch"),
            "{answered}"
        );
    });
    assert_eq!(after.rules(), ["network.address-mismatch"]);
    assert_eq!(after.report.denied[0].times, 2);
    assert_eq!(heard.try_iter().count(), 0);
}
