//! A gate, servers on loopback, and clients that write bytes.

use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use action::{Actor, Autonomy, SessionId};
use egress::{Doors, NetworkReport, Proxy, ProxySettings, Resolver};
use gate::{Approver, Gate, Limits, Nobody};
use ledger::{Entries, Ledger};
use policy::{NetworkConfig, NetworkRules, Policy};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers in turn; the last one stays.
#[derive(Default)]
pub(crate) struct Table(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Table {
    pub(crate) fn with(self, name: &str, answers: &[&[IpAddr]]) -> Self {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), answers);
        self
    }
}

impl Resolver for Table {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + 'a>> {
        let mut table = self.0.lock().unwrap();
        let answer = match table.get_mut(host) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(std::io::Error::other("no such name")),
        };
        Box::pin(std::future::ready(answer))
    }
}

pub(crate) fn rules(text: &str) -> NetworkRules {
    let list = |name: &str| {
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(|line| line.split("; ").map(str::to_owned).collect()).unwrap_or_default()
    };
    let config = NetworkConfig {
        allow: list("allow"),
        ask: list("ask"),
        deny: list("deny"),
        private: list("private"),
        inspect: list("inspect"),
    };
    NetworkRules::from_config(&config, "test").unwrap()
}

/// `server.test` and `other.test` lead here.
pub(crate) fn settings(text: &str) -> ProxySettings {
    let resolver = Table::default().with("server.test", &[&[LOCAL]]).with("other.test", &[&[LOCAL]]);
    ProxySettings { resolver: Box::new(resolver), ..ProxySettings::new(rules(text)) }
}

pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) proxy: SocketAddr,
    pub(crate) direct: Vec<SocketAddr>,
    pub(crate) dns: SocketAddr,
}

/// What is left after a run.
pub(crate) struct After {
    pub(crate) report: NetworkReport,
    pub(crate) records: Vec<Value>,
}

impl After {
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.records.iter().map(|entry| &entry["record"]).filter(|record| record["type"] == kind).collect()
    }

    pub(crate) fn rules(&self) -> Vec<&str> {
        self.report.denied.iter().map(|denied| denied.rule.as_str()).collect()
    }
}

/// Runs `client` beside a proxy. Everything ends within a minute.
pub(crate) fn run<T>(settings: ProxySettings, client: impl AsyncFnOnce(&Place) -> T) -> (T, After) {
    run_asking(settings, Box::new(Nobody), client)
}

pub(crate) fn run_asking<T>(
    settings: ProxySettings,
    approver: Box<dyn Approver>,
    client: impl AsyncFnOnce(&Place) -> T,
) -> (T, After) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listen = || std::net::TcpListener::bind((LOCAL, 0)).unwrap();
        let (proxy, direct) = (listen(), listen());
        let dns = std::net::UdpSocket::bind((LOCAL, 0)).unwrap();
        let place = Place {
            directory: tempfile::tempdir().unwrap(),
            proxy: proxy.local_addr().unwrap(),
            direct: vec![direct.local_addr().unwrap()],
            dns: dns.local_addr().unwrap(),
        };
        let at = place.directory.path().join("ledger");
        let actor = Actor { person: "p".into(), agent: "a".into(), session: SessionId::new("s") };
        let policy = Policy::new(Autonomy::Auto).with_network(settings.rules.clone());
        let gate = Gate::new(actor, policy, Limits::default(), approver, Ledger::open(&at).unwrap());
        let doors = Doors { proxy, direct: vec![direct], dns: Some(dns) };
        let proxy = Proxy::new(&gate, settings, doors).unwrap();
        let work = proxy.beside(client(&place));
        let result = tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs");
        let report = proxy.report();
        drop(proxy);
        let records = Entries::open(&at).unwrap().collect();
        (result, After { report, records })
    })
}

/// A server in threads of its own; each connection goes to `serve`.
pub(crate) fn server(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = std::net::TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = std::sync::Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

pub(crate) fn echo() -> u16 {
    server(|mut stream| {
        let mut copy = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut copy, &mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    })
}

/// Reads a request: its head as text, and its body.
pub(crate) fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Answers every request with its own head and body; tells about each over the channel.
pub(crate) fn http_server() -> (u16, Receiver<String>) {
    let (told, heard) = channel();
    let told = Mutex::new(told);
    let port = server(move |stream| {
        let told = told.lock().unwrap().clone();
        serve_http(stream, &told);
    });
    (port, heard)
}

pub(crate) fn serve_http(stream: impl Read + Write, told: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = request(&mut reader) {
        let _ = told.send(head.clone());
        let answer = [head.as_bytes(), &body].concat();
        let redirect = head.starts_with("GET /redirect");
        let (status, extra) =
            if redirect { (302, "location: http://denied.test/\r\n") } else { (200, "proxy-x: 1\r\n") };
        let text = format!("HTTP/1.1 {status} OK\r\n{extra}content-length: {}\r\n\r\n", answer.len());
        let stream = reader.get_mut();
        if stream.write_all(&[text.as_bytes(), &answer].concat()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// Writes and reads until the other side closes.
pub(crate) async fn exchange(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

pub(crate) async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut out = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut out).await;
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads one answer with a length: its head and its body.
pub(crate) async fn answer(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(char::from(byte)),
            Err(_) => return (head, String::new()),
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// A tunnel through the proxy, or the head of the refusal.
pub(crate) async fn connect(place: &Place, to: &str) -> Result<TcpStream, (String, String)> {
    let mut stream = TcpStream::connect(place.proxy).await.unwrap();
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
    let (head, body) = answer(&mut stream).await;
    if head.starts_with("HTTP/1.1 200") { Ok(stream) } else { Err((head, body)) }
}
