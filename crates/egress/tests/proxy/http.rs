//! Plain HTTP through the proxy.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

fn get(host: &str, path: &str) -> String {
    format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_request_goes_through_without_what_is_for_the_proxy() {
    let (port, heard) = http_server();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let (answered, after) = run(settings(&text), async |place| {
        let request = format!(
            "POST http://Server.Test:{port}/a?secret=1 HTTP/1.1\r\nHost: server.test:{port}\r\nProxy-Authorization: Basic x\r\n\
             Connection: close, X-Hop\r\nX-Hop: 1\r\nX-Own: 2\r\nContent-Length: 5\r\n\r\nhello"
        );
        exchange(place.proxy, request.as_bytes()).await
    });
    assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("hello"), "{answered}");
    assert!(!answered.contains("proxy-x"), "{answered}");
    let head = heard.recv().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /a?secret=1 http/1.1") && head.contains("x-own: 2"), "{head}");
    assert!(!head.contains("proxy") && !head.contains("x-hop"), "{head}");
    assert!(head.contains(&format!("host: server.test:{port}")), "{head}");
    let intent = &after.of("intent")[0]["action"];
    assert_eq!((intent["method"].as_str(), intent["path"].as_str()), (Some("POST"), Some("/a")), "no query");
    let outcome = after.of("outcome")[0];
    assert!(outcome["bytes_out"].as_u64().unwrap() > 50 && outcome["bytes_in"].as_u64().unwrap() > 50);
    assert_eq!((outcome["status"].clone(), after.report.made), (200.into(), 1));
}

#[test]
fn each_request_of_a_connection_is_decided_by_itself() {
    let (port, heard) = http_server();
    let text = format!("allow: GET server.test:{port}/pub/**\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut stream = TcpStream::connect(place.proxy).await.unwrap();
        for (path, status) in
            [("/pub/a", "200"), ("/secret", "403"), ("/pub/../secret", "403"), ("/pub/b", "200")]
        {
            let request =
                format!("GET http://server.test:{port}{path} HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            assert_eq!(head.split(' ').nth(1), Some(status), "{path}: {head} {body}");
        }
        let request =
            format!("DELETE http://server.test:{port}/pub/a HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.starts_with("HTTP/1.1 403"));
    });
    assert_eq!(heard.try_iter().count(), 2, "the server heard of nothing else");
    assert_eq!((after.of("intent").len(), after.of("refused").len()), (2, 3));
}

#[test]
fn a_redirect_is_just_another_request() {
    let (port, _heard) = http_server();
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let first = exchange(place.proxy, get(&format!("server.test:{port}"), "/redirect").as_bytes()).await;
        assert!(first.contains("302") && first.contains("location: http://denied.test/"), "{first}");
        let second = exchange(place.proxy, get("denied.test", "/").as_bytes()).await;
        assert!(second.starts_with("HTTP/1.1 403"), "{second}");
        assert!(second.contains("x-varvel-rule: network.default-deny"), "{second}");
        assert!(
            second.contains("varvel: connection to denied.test:80 refused (network.default-deny)"),
            "{second}"
        );
        assert!(second.contains("--allow denied.test:80"), "{second}");
    });
    let denied = &after.report.denied[0];
    assert_eq!((denied.destination.to_string().as_str(), denied.times), ("denied.test:80", 1));
    assert!(denied.hint.as_ref().unwrap().contains("varvel network allow denied.test"));
}

#[test]
fn hosts_have_to_agree() {
    let (port, heard) = http_server();
    let text = format!("allow: server.test:{port}; other.test:{port}\nprivate: *.test");
    let ((), after) = run(settings(&text), async |place| {
        for (host, status) in [
            (format!("Host: other.test:{port}"), "403"),
            ("Host: server.test".to_owned(), "403"),
            (format!("Host: server.test:{port}\r\nHost: other.test:{port}"), "400"),
            ("Host: a b".to_owned(), "400"),
            (format!("Host: SERVER.test.:{port}"), "200"),
        ] {
            let request =
                format!("GET http://server.test:{port}/ HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n");
            let answered = exchange(place.proxy, request.as_bytes()).await;
            assert_eq!(answered.split(' ').nth(1), Some(status), "{host}: {answered}");
        }
    });
    assert_eq!(heard.try_iter().count(), 1);
    assert_eq!(after.rules(), ["network.host-mismatch"]);
    assert_eq!(after.of("refused").len(), 2);
}

#[test]
fn what_is_no_request_for_a_proxy_is_a_400() {
    let ((), after) = run(settings("allow: *:*"), async |place| {
        for bad in [
            "GET / HTTP/1.1\r\nHost: server.test\r\n\r\n",
            "GET https://server.test/ HTTP/1.1\r\nHost: server.test\r\n\r\n",
            "GET ftp://server.test/ HTTP/1.1\r\nHost: server.test\r\n\r\n",
            "GET http://user@server.test/ HTTP/1.1\r\nHost: server.test\r\n\r\n",
            "GET http://127.1/ HTTP/1.1\r\nHost: 127.1\r\n\r\n",
            "CONNECT server.test HTTP/1.1\r\nHost: server.test\r\n\r\n",
            "CONNECT server.test:99999 HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT /path HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT http://server.test:443/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT server.test:0 HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT  HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02\x00garbage\r\n\r\n",
            "\0\0\0\0\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(place.proxy).await.unwrap();
            stream.write_all(bad.as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 400"), "{bad:?}: {head} {body}");
        }
    });
    assert!(after.of("intent").is_empty());
}

#[test]
fn websockets_are_refused_with_a_word() {
    let ((), after) = run(settings("allow: *:*"), async |place| {
        let request = "GET http://server.test/ HTTP/1.1\r\nHost: server.test\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n";
        let answered = exchange(place.proxy, request.as_bytes()).await;
        assert!(answered.starts_with("HTTP/1.1 501") && answered.contains("WebSockets"), "{answered}");
    });
    assert!(after.of("intent").is_empty());
}

#[test]
fn a_server_that_is_not_there_is_a_502() {
    let closed = std::net::TcpListener::bind((LOCAL, 0)).unwrap().local_addr().unwrap().port();
    let text = format!("allow: server.test:{closed}; gone.test\nprivate: *.test");
    let ((), after) = run(settings(&text), async |place| {
        for host in [format!("server.test:{closed}"), "gone.test".to_owned()] {
            let answered = exchange(place.proxy, get(&host, "/").as_bytes()).await;
            assert!(answered.starts_with("HTTP/1.1 502"), "{answered}");
        }
    });
    assert_eq!(after.of("outcome").iter().filter(|outcome| outcome["status"] == "failed").count(), 2);
}

#[test]
fn a_server_that_closes_kept_connections_is_connected_to_again() {
    let port = server(|mut stream| {
        use std::io::Write;
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        if request(&mut reader).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        }
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut stream = TcpStream::connect(place.proxy).await.unwrap();
        for _ in 0..5 {
            let request =
                format!("GET http://server.test:{port}/ HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
        }
    });
    assert_eq!(after.report.made, 5);
}

#[test]
fn answers_of_every_shape_come_through() {
    let port = server(|mut stream| {
        use std::io::{Read, Write};
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Some((head, _)) = request(&mut reader) {
            if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
                let mut body = [0; 5 + 5 + 5];
                reader.read_exact(&mut body).unwrap();
                assert_eq!(&body, b"5\r\nhello\r\n0\r\n\r\n");
            }
            let answer: &[u8] = match head.split(' ').next().unwrap() {
                "HEAD" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                "DELETE" => b"HTTP/1.1 204 No Content\r\n\r\n",
                "POST" => b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\nx",
                _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            };
            stream.write_all(answer).unwrap();
        }
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut stream = TcpStream::connect(place.proxy).await.unwrap();
        let head = |method: &str, more: &str| {
            format!("{method} http://server.test:{port}/ HTTP/1.1\r\nHost: server.test:{port}\r\n{more}\r\n")
        };
        stream.write_all(head("HEAD", "").as_bytes()).await.unwrap();
        // Its length is that of the body that GET would have.
        let mut seen = String::new();
        while !seen.ends_with("\r\n\r\n") {
            seen.push(char::from(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap()));
        }
        assert!(seen.contains("content-length: 1000"), "{seen}");
        stream.write_all(head("DELETE", "").as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.starts_with("HTTP/1.1 204"));
        let upload =
            head("POST", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\nExpect: 100-continue\r\n");
        // Length and chunks together: what is sent on has only chunks.
        stream.write_all(format!("{upload}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        let (mut first, mut body) = answer(&mut stream).await;
        if first.starts_with("HTTP/1.1 100") {
            (first, body) = answer(&mut stream).await;
        }
        assert!(first.starts_with("HTTP/1.1 201") && body == "x", "{first} {body}");
        let mut last = TcpStream::connect(place.proxy).await.unwrap();
        last.write_all(head("GET", "Connection: close\r\n").as_bytes()).await.unwrap();
        let all = rest(&mut last).await;
        assert!(all.contains("3\r\nabc\r\n0\r\n"), "{all}");
    });
    assert_eq!(after.report.made, 4);
}

#[test]
fn a_client_that_goes_away_ends_its_request() {
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let port = server(move |mut stream| {
        use std::io::Write;
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let _ = request(&mut reader);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
        while stream.write_all(&[0; 10_000]).is_ok() {}
        told.lock().unwrap().send(()).unwrap();
    });
    let text = format!("allow: server.test:{port}\nprivate: server.test");
    let ((), after) = run(settings(&text), async |place| {
        let mut stream = TcpStream::connect(place.proxy).await.unwrap();
        let request = format!("GET http://server.test:{port}/ HTTP/1.1\r\nHost: server.test:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut some = [0; 1000];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut some).await.unwrap();
        drop(stream);
    });
    heard.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(after.of("outcome")[0]["reset"], true);
}
