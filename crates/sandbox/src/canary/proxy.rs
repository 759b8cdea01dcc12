//! The proxy as a way back into the machine that it runs on.

use std::net::{Ipv4Addr, SocketAddr};

use super::Brief;
use super::attempt::{Tally, Verdict};
use super::network::{ask, connect};

/// Where the proxy listens inside.
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3128);

/// Whether this profile has a proxy.
pub(crate) fn is_here() -> bool {
    connect(PROXY).is_ok()
}

/// Whether an HTTP answer is one of success.
pub(crate) fn succeeded(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.") && answer.get(9) == Some(&b'2')
}

pub(crate) fn loopback(brief: &Brief) -> Verdict {
    if !is_here() {
        return Verdict::held("there is no proxy in this profile");
    }
    let mut tally = Tally::default();
    let port = brief.proxied;
    let mut http = |what: String, question: String| {
        let answer = connect(PROXY).and_then(|proxy| ask(&proxy, question.as_bytes()));
        match answer {
            Ok(answer) if succeeded(&answer) => tally.escaped(what),
            Ok(answer) => {
                let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
                tally.answer(if status.is_empty() { "closed".to_owned() } else { status });
            }
            Err(code) => tally.answer(code.name()),
        }
    };
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
    ] {
        let tunnel = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        http(format!("CONNECT {host}"), tunnel);
        let plain =
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        http(format!("GET http://{host}"), plain);
    }
    let metadata = "GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";
    http("GET http://169.254.169.254".into(), metadata.into());
    socks(port, &mut tally);
    tally.verdict()
}

/// SOCKS5, RFC 1928: by address (1) and by name (3).
fn socks(port: u16, tally: &mut Tally) {
    let by_address = [vec![5, 1, 0, 1, 127, 0, 0, 1], port.to_be_bytes().to_vec()].concat();
    let by_name = [b"\x05\x01\x00\x03\x09localhost".to_vec(), port.to_be_bytes().to_vec()].concat();
    for (what, request) in [("SOCKS5 to 127.0.0.1", by_address), ("SOCKS5 to localhost", by_name)] {
        let answered = connect(PROXY).and_then(|proxy| {
            ask(&proxy, &[5, 1, 0])?;
            ask(&proxy, &request)
        });
        match answered {
            Ok(answer) if answer.starts_with(&[5, 0]) => tally.escaped(what),
            Ok(_) => tally.answer("refused by SOCKS5"),
            Err(code) => tally.answer(code.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_success() {
        assert!(succeeded(b"HTTP/1.1 200 OK\r\n") && !succeeded(b"HTTP/1.1 403 No\r\n"));
        assert!(!succeeded(b"") && !succeeded(b"HTTP/1.1"));
    }
}
