//! As much HTTP/1.1 as the tests need.

use std::io::{self, BufRead, Write};
use std::net::TcpStream;

use crate::Request;

/// Largest body that is read.
const MAX_BODY: usize = 64 << 20;

pub(crate) struct Incoming {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// The next request of a connection; `None` at its end.
pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Incoming>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0).min(MAX_BODY)];
    reader.read_exact(&mut body)?;
    Ok(Some(Incoming { path, headers, body: String::from_utf8_lossy(&body).into_owned() }))
}

/// A complete response.
pub(crate) fn respond(
    mut stream: &TcpStream,
    status: u16,
    kind: &str,
    extra: &str,
    body: &[u8],
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{extra}connection: keep-alive\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// The beginning of a response in chunks.
pub(crate) fn begin(mut stream: &TcpStream, kind: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

/// One chunk.
pub(crate) fn chunk(mut stream: &TcpStream, data: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())
}

/// The end of a response in chunks.
pub(crate) fn end(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"0\r\n\r\n")
}

/// A file, or the part of it that is asked for.
pub(crate) fn file(stream: &TcpStream, request: &Request, content: &[u8]) -> io::Result<()> {
    let from = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
        .filter(|from| *from < content.len());
    match from {
        Some(from) => respond(stream, 206, "application/octet-stream", "", &content[from..]),
        None => respond(stream, 200, "application/octet-stream", "", content),
    }
}
