//! Sizes, times and numbers.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use egress::{ProxyLimits, ProxySettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

fn quick(settings: ProxySettings) -> ProxySettings {
    let limits = ProxyLimits {
        header: Duration::from_millis(200),
        idle: Duration::from_millis(300),
        ..ProxyLimits::default()
    };
    ProxySettings { limits, ..settings }
}

#[test]
fn oversize_heads_are_refused() {
    run(settings("allow: *:*"), async |place| {
        let long =
            format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let many = format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X: y\r\n".repeat(200));
        for request in [long, many] {
            let mut stream = TcpStream::connect(place.proxy).await.unwrap();
            // The proxy may answer before it has everything.
            let _ = stream.write_all(request.as_bytes()).await;
            let head = rest(&mut stream).await;
            assert!(head.is_empty() || head.starts_with("HTTP/1.1 431"), "{head}");
        }
    });
}

#[test]
fn slow_clients_are_closed() {
    let ((), after) = run(quick(settings("allow: *:*")), async |place| {
        for beginning in
            [&b""[..], b"G", b"GET http://a.test/ HTTP/1.1\r\nHost: a", b"\x05", b"\x05\x01\x00\x05"]
        {
            let mut stream = TcpStream::connect(place.proxy).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            let _ = rest(&mut stream).await;
        }
    });
    assert!(after.records.is_empty());
}

#[test]
fn silence_ends_a_connection() {
    let port = server(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(quick(settings(&text)), async |place| {
        let mut tunnel = connect(place, &format!("server.test:{port}")).await.unwrap();
        tunnel.write_all(b"x").await.unwrap();
        assert_eq!(rest(&mut tunnel).await, "");
        let request = format!("GET http://server.test:{port}/ HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
        let mut stream = TcpStream::connect(place.proxy).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 504"), "{head}");
        // One that goes away while the server is silent.
        let mut stream = TcpStream::connect(place.proxy).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    assert_eq!(after.of("outcome").len(), 3);
}

#[test]
fn the_limit_of_bytes_closes_and_refuses() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let settings = ProxySettings { max_bytes: Some(100_000), ..settings(&text) };
    let ((), after) = run(settings, async |place| {
        let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
        let (mut read, mut write) = stream.split();
        let send = async { while write.write_all(&[0; 10_000]).await.is_ok() {} };
        let receive = async {
            let mut all = Vec::new();
            let _ = read.read_to_end(&mut all).await;
            all.len()
        };
        let ((), got) = tokio::join!(send, receive);
        assert!(got <= 100_000);
        let (head, body) = connect(place, &format!("server.test:{port}")).await.unwrap_err();
        assert!(head.contains("limit.network-bytes"), "{head} {body}");
    });
    assert_eq!(after.report.bytes_in + after.report.bytes_out, 100_000);
    assert_eq!(after.rules(), ["limit.network-bytes"]);
    assert_eq!(after.of("refused").len(), 2);
}

#[test]
fn the_rate_is_kept() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let settings = ProxySettings { rate: Some(200_000), ..settings(&text) };
    let (time, _) = run(settings, async |place| {
        let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
        let clock = Instant::now();
        stream.write_all(&[7; 200_000]).await.unwrap();
        let mut back = vec![0; 200_000];
        stream.read_exact(&mut back).await.unwrap();
        clock.elapsed()
    });
    // 400,000 bytes, of which one second's worth may go at once.
    assert!(time > Duration::from_millis(500), "{time:?}");
}

#[test]
fn five_hundred_connections_at_once() {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let more = rustix::process::Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, more).unwrap();
    let port = server(|mut stream| {
        let mut buffer = [0; 5];
        while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let (time, after) = run(settings(&text), async |place| {
        let to = format!("server.test:{port}");
        let clock = Instant::now();
        let all = (0..500).map(|_| async {
            let mut stream = connect(place, &to).await.unwrap();
            let mut back = [0; 5];
            stream.write_all(b"hello").await.unwrap();
            stream.read_exact(&mut back).await.unwrap();
            stream
        });
        let open = futures_util::future::join_all(all).await;
        assert_eq!(open.len(), 500);
        clock.elapsed()
    });
    println!("500 connections: {time:?}");
    assert_eq!((after.report.made, after.report.bytes_out), (500, 2500));
}

#[test]
fn more_connections_than_allowed_wait() {
    let port = echo();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let settings = settings(&text);
    let limits = ProxyLimits { connections: 2, ..ProxyLimits::default() };
    run(ProxySettings { limits, ..settings }, async |place| {
        let to = format!("server.test:{port}");
        let first = connect(place, &to).await.unwrap();
        let _second = connect(place, &to).await.unwrap();
        let mut third = Box::pin(connect(place, &to));
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut third).await.is_err());
        drop(first);
        assert!(third.await.is_ok());
    });
}

/// Memory of this process in kilobytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn a_quarter_of_a_gigabyte_in_little_memory() {
    const SIZE: usize = 256 << 20;
    let port = server(|mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        // A tunnel says one byte, HTTP a request.
        let mut first = [0];
        reader.read_exact(&mut first).unwrap();
        if first == *b"G" {
            let _ = request(&mut reader);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        }
        let block = vec![1; 1 << 20];
        for _ in 0..SIZE >> 20 {
            if stream.write_all(&block).is_err() {
                return;
            }
        }
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut buffer = vec![0; 1 << 16];
        for kind in ["tunnel", "http"] {
            let (clock, before, mut most, mut got) = (Instant::now(), resident(), 0, 0);
            let mut stream = if kind == "tunnel" {
                let mut stream = connect(place, &format!("server.test:{port}")).await.unwrap();
                stream.write_all(b"x").await.unwrap();
                stream
            } else {
                let mut stream = TcpStream::connect(place.proxy).await.unwrap();
                let request = format!(
                    "GET http://server.test:{port}/ HTTP/1.1\r\nHost: server.test:{port}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                stream
            };
            loop {
                let count = stream.read(&mut buffer).await.unwrap();
                if count == 0 {
                    break;
                }
                if got / (16 << 20) != (got + count) / (16 << 20) {
                    most = resident().max(most);
                }
                got += count;
            }
            assert!(got >= SIZE);
            let grown = most.saturating_sub(before);
            println!("{kind}: 256 MB in {:?}, memory +{grown} kB", clock.elapsed());
            assert!(grown < 64 << 10, "{grown} kB more");
        }
    });
    assert!(after.report.bytes_in >= 2 * SIZE as u64);
}
