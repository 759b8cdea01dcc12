//! A small web server that remembers what it was asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest that a client may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// The server. It lives as long as the test program.
pub(super) struct Web {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// At any port of `host`; `None` when this machine has no such address.
    pub(super) fn at(host: &str) -> Option<Self> {
        let listener = TcpListener::bind(format!("{host}:0")).ok()?;
        let web = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&web.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Some(web)
    }

    pub(super) fn start(host: &str) -> Self {
        Self::at(host).unwrap()
    }

    pub(super) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// `HOST:PORT`.
    pub(super) fn place(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Method and target of every request, and an empty line for a connection that brought none.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// `/to/HOST:PORT/PATH` leads there, `/big/N` has N bytes, everything else has its own name.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    seen.lock().unwrap().push(format!("{method} {target}").trim().to_owned());
    let (status, body) = match (target.strip_prefix("/to/"), target.strip_prefix("/big/")) {
        (Some(to), _) => (format!("302 Found\r\nLocation: http://{to}"), String::new()),
        (_, Some(count)) => ("200 OK".to_owned(), "x".repeat(count.parse().unwrap())),
        _ => ("200 OK".to_owned(), format!("served {target}")),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    // A client that was cut off does not matter here. Whatever it still sends is read, so that the answer arrives.
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}
