//! A model server that does as it is told: it speaks the wire formats of the providers, streaming and not, and can
//! misbehave in every way a real one does. It listens on the loopback device only, and ends with the [`Server`].

mod http;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use wire::Wire;

/// What the server does with one request of a model.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Answers with text.
    Text(String),
    /// Answers with text that reaches the output limit (OpenAI chat, streaming).
    Length(String),
    /// Calls tools.
    Calls(Vec<(String, Value)>),
    /// Says something and calls one tool.
    Mixed(String, String, Value),
    /// Calls one tool with arguments that may not be JSON.
    RawCall(String, String),
    /// Answers with a status and a body, and perhaps a `retry-after` in seconds.
    Status(u16, String, Option<u64>),
    /// Begins to answer with this text and closes the connection.
    Truncated(String),
    /// Begins to answer with this text and ends the response in good order, but without the end of the answer.
    Cut(String),
    /// Answers 200 with something that is not an answer.
    Garbage,
    /// Says nothing for this long, then answers with text.
    Stall(Duration, String),
    /// Closes the connection without a word.
    Close,
    /// Sends text without end, until the other side has had enough.
    Endless,
}

impl Turn {
    /// Answers with text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Calls one tool.
    #[must_use]
    pub fn call(name: &str, arguments: Value) -> Self {
        Self::Calls(vec![(name.to_owned(), arguments)])
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path with query.
    pub path: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it was sent.
    pub raw: String,
    /// The body as JSON; null when it is not.
    pub body: Value,
    /// When it had arrived completely.
    pub arrived: Instant,
    /// When the answer was sent completely.
    pub answered: Option<Instant>,
}

impl Request {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

struct Shared {
    turns: Mutex<Vec<Turn>>,
    requests: Mutex<Vec<Request>>,
    files: Mutex<Vec<(String, Vec<u8>)>>,
    moved: Mutex<Vec<(String, String)>>,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts one that takes `turns` in order and repeats the last.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(turns: Vec<Turn>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            turns: Mutex::new(turns),
            requests: Mutex::default(),
            files: Mutex::default(),
            moved: Mutex::default(),
        });
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Ok(Self { address, shared })
    }

    /// Serves `content` as a file under `path` (with `Range`).
    pub fn file(&self, path: &str, content: Vec<u8>) {
        lock(&self.shared.files).push((path.to_owned(), content));
    }

    /// Sends everybody who asks for `path` to the address `to`.
    pub fn redirect(&self, path: &str, to: &str) {
        lock(&self.shared.moved).push((path.to_owned(), to.to_owned()));
    }

    /// Its address: what `--base-url` gets for `wire`.
    #[must_use]
    pub fn url(&self, wire: Wire) -> String {
        format!("http://{}{}", self.address, wire.prefix())
    }

    /// `http://host:port`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What arrived so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection until it ends. A connection that breaks is the other side's affair.
fn serve(stream: &TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
    let mut reader = io::BufReader::new(stream);
    while let Ok(Some(incoming)) = http::read(&mut reader) {
        let arrived = Instant::now();
        let file = lock(&shared.files)
            .iter()
            .find(|(path, _)| *path == incoming.path)
            .map(|(_, content)| content.clone());
        let body = serde_json::from_str(&incoming.body).unwrap_or(Value::Null);
        let request = Request {
            path: incoming.path.clone(),
            headers: incoming.headers,
            raw: incoming.body,
            body,
            arrived,
            answered: None,
        };
        let index = {
            let mut requests = lock(&shared.requests);
            requests.push(request.clone());
            requests.len() - 1
        };
        let moved =
            lock(&shared.moved).iter().find(|(path, _)| *path == request.path).map(|(_, to)| to.clone());
        if let Some(to) = moved {
            if http::respond(stream, 302, "text/plain", &format!("location: {to}\r\n"), b"").is_err() {
                return;
            }
            continue;
        }
        if let Some(content) = file {
            if http::file(stream, &request, &content).is_err() {
                return;
            }
            continue;
        }
        let turn = {
            let mut turns = lock(&shared.turns);
            if turns.len() > 1 {
                turns.remove(0)
            } else {
                turns.first().cloned().unwrap_or_else(|| Turn::text("done"))
            }
        };
        let goes_on = wire::answer(stream, &request, &turn, index);
        lock(&shared.requests)[index].answered = Some(Instant::now());
        if !matches!(goes_on, Ok(true)) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}
