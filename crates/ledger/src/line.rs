//! The form of one line: `{"seq":N,"prev":"HEX","time":"RFC 3339","record":{...},"hash":"HEX"}`.

use action::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::Sequence;

/// Longest line accepted, in bytes.
pub(crate) const MAX_LINE: usize = 4 * 1024 * 1024;
/// The `prev` of the first entry.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const HASH_KEY: &[u8] = b",\"hash\":\"";
/// Length of `,"hash":"` + 64 hex digits + `"}`.
const SUFFIX: usize = HASH_KEY.len() + 64 + 2;

/// A line that has been checked against its own hash.
pub(crate) struct Checked {
    pub(crate) seq: Sequence,
    pub(crate) prev: String,
    pub(crate) hash: Digest,
    pub(crate) value: Value,
}

/// Builds a line, without the line feed, and its hash.
pub(crate) fn build(
    seq: Sequence,
    prev: &str,
    time: &str,
    record: &impl Serialize,
) -> Result<(Vec<u8>, Digest), serde_json::Error> {
    #[derive(Serialize)]
    struct Body<'a, R> {
        seq: Sequence,
        prev: &'a str,
        time: &'a str,
        record: &'a R,
    }
    let mut line = serde_json::to_vec(&Body { seq, prev, time, record })?;
    line.pop(); // the closing brace comes after the hash
    let hash = Digest::of(&line);
    line.extend_from_slice(HASH_KEY);
    line.extend_from_slice(hash.to_string().as_bytes());
    line.extend_from_slice(b"\"}");
    Ok((line, hash))
}

/// Checks a line against its own hash and takes it apart.
pub(crate) fn check(line: &[u8]) -> Result<Checked, &'static str> {
    let split = line.len().checked_sub(SUFFIX).ok_or("it is too short to be an entry")?;
    let (body, suffix) = line.split_at(split);
    let hash = suffix
        .strip_prefix(HASH_KEY)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(Digest::parse)
        .ok_or("it does not end with a hash")?;
    if Digest::of(body) != hash || hash.to_string().as_bytes() != &suffix[HASH_KEY.len()..HASH_KEY.len() + 64]
    {
        return Err("its content does not match its hash");
    }
    let value: Value = serde_json::from_slice(line).map_err(|_| "it is not JSON")?;
    let seq = value.get("seq").and_then(Value::as_u64).ok_or("it has no sequence number")?;
    let prev = value.get("prev").and_then(Value::as_str).ok_or("it does not name the entry before it")?;
    Ok(Checked { seq, prev: prev.to_owned(), hash, value })
}
