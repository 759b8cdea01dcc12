//! Fetching a file, from a given byte on.

use action::Network;
use futures_util::StreamExt;
use gate::{Authorized, Report};
use ledger::{Outcome, Status};
use reqwest::header::{LOCATION, RANGE};

use crate::client::{Egress, EgressError, destination, innermost};

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Everything arrived: this many bytes.
    Complete {
        /// Bytes that arrived now.
        bytes: u64,
    },
    /// It is elsewhere; going there is an action of its own.
    Moved {
        /// The new address.
        to: String,
    },
}

impl Report for Fetched {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Complete { bytes } => Outcome::new(Status::Done).with("bytes_in", *bytes),
            Self::Moved { to } => {
                let host = destination(to).map(|(at, _)| at.to_string()).unwrap_or_default();
                Outcome::new(Status::Done).with("moved_to", host)
            }
        }
    }
}

/// Fetches an authorised address, starting at byte `from`. `sink` gets whether the server honoured `from`, the
/// total size if it is known, and the bytes as they arrive.
///
/// # Errors
/// If the server cannot be reached or refuses, or `sink` fails.
pub async fn fetch(
    egress: &Egress,
    authorized: Authorized<Network>,
    from: u64,
    mut sink: impl FnMut(bool, Option<u64>, &[u8]) -> std::io::Result<()>,
) -> Result<Fetched, EgressError> {
    let url = authorized.action().url.clone();
    let at = authorized.action().destination.to_string();
    let (_, encrypted) = destination(&url)?;
    let client = egress.for_fetch(&authorized, encrypted)?;
    let unreachable =
        |error: reqwest::Error| EgressError::Unreachable { destination: at.clone(), why: innermost(&error) };
    let mut request = client.get(&url);
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| response.url().join(location).ok());
        let to = to.ok_or(EgressError::Address { url, why: "the server sent it to an unusable address" })?;
        return Ok(Fetched::Moved { to: to.to_string() });
    }
    if !status.is_success() {
        return Err(EgressError::Status { destination: at, status: status.as_u16() });
    }
    let resumed = status.as_u16() == 206;
    let total = response.content_length().map(|length| length + if resumed { from } else { 0 });
    let mut bytes = 0;
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(unreachable)?;
        bytes += chunk.len() as u64;
        sink(resumed, total, &chunk).map_err(EgressError::Store)?;
    }
    Ok(Fetched::Complete { bytes })
}
