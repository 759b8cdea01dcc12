//! Requests and events, one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Repeated in every event of the answer.
    pub(crate) id: u64,
    /// The conversation.
    pub(crate) messages: Vec<Turn>,
    /// Most tokens to produce.
    pub(crate) max_tokens: u32,
    /// 0 takes the likeliest token each time.
    #[serde(default)]
    pub(crate) temperature: f32,
    /// Texts that end the answer and are not part of it.
    #[serde(default)]
    pub(crate) stop: Vec<String>,
    /// JSON Schema that the answer must follow.
    #[serde(default)]
    pub(crate) schema: Option<Value>,
    /// Text that the answer starts with; not repeated in it.
    #[serde(default)]
    pub(crate) assistant_prefix: Option<String>,
    /// Where chance starts.
    #[serde(default)]
    pub(crate) seed: u32,
}

/// One turn of the conversation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    /// `system`, `user` or `assistant`.
    pub(crate) role: Role,
    /// Its text. Control tokens in it are text, not control.
    pub(crate) content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What happens.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// The model is loaded and the process locked in.
    Ready { context: u32, threads: i32 },
    /// A piece of the answer.
    Delta { id: u64, text: &'a str },
    /// The answer is complete.
    Done { id: u64, finish: Finish, prompt_tokens: usize, reused_tokens: usize, output_tokens: usize },
    /// The request could not be answered; the next one can.
    Error {
        id: Option<u64>,
        code: &'static str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tokens: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<u32>,
    },
    /// The process ends.
    Fatal { message: &'a str },
}

impl<'a> Event<'a> {
    pub(crate) fn bad_request(id: Option<u64>, message: &'a str) -> Self {
        Self::Error { id, code: "bad_request", message, tokens: None, window: None }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finish {
    /// The model was done.
    Stop,
    /// `max_tokens` or the window was reached.
    Length,
    /// One of the stop texts came.
    StopSequence,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_parse_or_are_refused() {
        let minimal = r#"{"id":1,"messages":[{"role":"user","content":"hi"}],"max_tokens":5}"#;
        let request: Request = serde_json::from_str(minimal).unwrap();
        assert_eq!((request.id, request.messages[0].role.name(), request.seed), (1, "user", 0));
        for wrong in [
            r#"{"id":1,"messages":[{"role":"root","content":"hi"}],"max_tokens":5}"#,
            r#"{"id":-1,"messages":[],"max_tokens":5}"#,
            r#"{"id":1,"messages":[],"max_tokens":5,"unknown":1}"#,
            "[]",
            "",
        ] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn events_have_their_names() {
        let done = Event::Done {
            id: 2,
            finish: Finish::StopSequence,
            prompt_tokens: 3,
            reused_tokens: 1,
            output_tokens: 4,
        };
        assert_eq!(
            serde_json::to_string(&done).unwrap(),
            r#"{"event":"done","id":2,"finish":"stop_sequence","prompt_tokens":3,"reused_tokens":1,"output_tokens":4}"#
        );
    }
}
