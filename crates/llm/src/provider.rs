//! What a provider's errors mean, and when to try again.

use std::time::Duration;

use crate::LlmError;

/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An error with the pause that the server asked for.
pub(crate) struct Failure {
    pub(crate) error: LlmError,
    pub(crate) retry_after: Option<Duration>,
}

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        Self { error, retry_after: None }
    }
}

impl Failure {
    /// Whether trying again can help: too many requests, a server's own trouble, a failed connection.
    pub(crate) fn is_retryable(&self) -> bool {
        match &self.error {
            LlmError::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 529),
            LlmError::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// How long to wait after the `attempt`-th failure: what the server asked for, else 0.5 s, 1 s, 2 s, ...
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let own = Duration::from_millis(500) * 2u32.saturating_pow(attempt.saturating_sub(1));
        self.retry_after.unwrap_or(own).min(LONGEST_PAUSE)
    }
}

/// Sorts a library error by what a person can do about it.
pub(crate) fn classify(at: &str, error: &genai::Error) -> Failure {
    let retry_after = error
        .headers()
        .and_then(|headers| headers.get("retry-after"))
        .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .map(|seconds| Duration::from_secs_f64(seconds.min(3600.0)));
    Failure { error: sort(at.to_owned(), error), retry_after }
}

fn sort(at: String, error: &genai::Error) -> LlmError {
    use genai::Error;
    use genai::webc::Error as Web;
    if let Some(status) = error.status() {
        let status = status.as_u16();
        let message = server_message(error);
        return match status {
            401 | 403 => LlmError::Refused { at, status, message },
            _ => LlmError::Status { at, status, message },
        };
    }
    match error {
        Error::WebModelCall { webc_error: Web::Reqwest(cause), .. } => connection(at, cause),
        Error::WebModelCall { webc_error: Web::ResponseFailedNotJson { .. }, .. } => {
            LlmError::Protocol { at, why: "the answer is not JSON; is the address right?".into() }
        }
        Error::WebModelCall { webc_error: Web::ResponseFailedInvalidJson { cause, .. }, .. } => {
            LlmError::Protocol { at, why: clip(cause) }
        }
        Error::WebStream { error: inner, .. } => {
            if let Some(http) = inner.downcast_ref::<Error>() {
                return sort(at, http);
            }
            match inner.downcast_ref::<reqwest::Error>() {
                Some(cause) => connection(at, cause),
                None => LlmError::Protocol { at, why: clip(&inner.to_string()) },
            }
        }
        Error::StreamParse { serde_error, .. } => {
            LlmError::Protocol { at, why: clip(&serde_error.to_string()) }
        }
        Error::ChatResponse { body, .. } => LlmError::Protocol { at, why: clip(&body.to_string()) },
        other => LlmError::Protocol { at, why: clip(&other.to_string()) },
    }
}

fn connection(at: String, cause: &reqwest::Error) -> LlmError {
    let mut inner: &dyn std::error::Error = cause;
    while let Some(source) = inner.source() {
        inner = source;
    }
    LlmError::Unreachable { at, why: inner.to_string() }
}

/// The server's own words: the `message` of a JSON error, else the body.
fn server_message(error: &genai::Error) -> String {
    use genai::webc::Error as Web;
    let body = match error {
        genai::Error::HttpError { body, .. }
        | genai::Error::WebModelCall { webc_error: Web::ResponseFailedStatus { body, .. }, .. } => {
            body.as_str()
        }
        _ => return String::new(),
    };
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        ["/error/message", "/message", "/error", "/0/error/message"]
            .iter()
            .find_map(|at| json.pointer(at).and_then(serde_json::Value::as_str))
    });
    clip(message.unwrap_or(body))
}

/// At most 300 characters, on one line.
pub(crate) fn clip(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if line.is_empty() { "(no message)".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_obey_the_server_within_reason() {
        let error = || LlmError::Status { at: "x".into(), status: 429, message: String::new() };
        let own = Failure { error: error(), retry_after: None };
        assert_eq!([1, 2, 3].map(|n| own.pause(n).as_millis()), [500, 1000, 2000]);
        let asked = |seconds| Failure { error: error(), retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(asked(7).pause(1).as_secs(), 7);
        assert_eq!(asked(9999).pause(1), LONGEST_PAUSE);
        assert!(own.is_retryable());
    }

    #[test]
    fn clipped_to_one_short_line() {
        assert_eq!(clip("a\nb\x1b[0m"), "a b [0m");
        assert!(clip(&"x".repeat(1000)).len() <= 300);
    }
}
