//! The wire formats: what each provider's answer looks like, as far as clients depend on it.

use std::io;
use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};

use crate::{Request, Turn, http};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI chat completions, and everything compatible with them.
    OpenAi,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Anthropic,
    /// Gemini generateContent.
    Gemini,
    /// Ollama chat.
    Ollama,
}

impl Wire {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OpenAi, Self::Responses, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// Name of the provider that speaks it, as in `--provider`.
    #[must_use]
    pub fn provider(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Responses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Responses | Self::Anthropic => "/v1/",
            Self::Gemini => "/v1beta/",
            Self::Ollama => "/",
        }
    }

    fn of(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        Some(match path {
            _ if path.ends_with("/chat/completions") => Self::OpenAi,
            _ if path.ends_with("/responses") => Self::Responses,
            _ if path.ends_with("/messages") => Self::Anthropic,
            _ if path.ends_with("enerateContent") => Self::Gemini,
            _ if path.ends_with("/api/chat") => Self::Ollama,
            _ => return None,
        })
    }
}

/// What an answer holds.
struct Answer {
    text: Option<String>,
    calls: Vec<(String, String)>,
    index: usize,
    /// The output limit was reached.
    length: bool,
}

/// Does one turn. `false`: the connection ends.
pub(crate) fn answer(stream: &TcpStream, request: &Request, turn: &Turn, index: usize) -> io::Result<bool> {
    let Some(wire) = Wire::of(&request.path) else {
        http::respond(stream, 404, "text/plain", "", b"no such path")?;
        return Ok(true);
    };
    let streaming = request.body["stream"] == true || request.path.contains("streamGenerateContent");
    let mut answer = Answer { text: None, calls: Vec::new(), index, length: matches!(turn, Turn::Length(_)) };
    match turn {
        Turn::Status(status, body, retry_after) => {
            let extra = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
            http::respond(stream, *status, "application/json", &extra, body.as_bytes())?;
            return Ok(true);
        }
        Turn::Close => return Ok(false),
        Turn::Garbage => {
            http::respond(stream, 200, "text/html", "", b"<html>It works!</html>")?;
            return Ok(true);
        }
        Turn::Stall(time, text) => {
            thread::sleep(*time);
            answer.text = Some(text.clone());
        }
        Turn::Text(text) | Turn::Length(text) | Turn::Truncated(text) | Turn::Cut(text) => {
            answer.text = Some(text.clone())
        }
        Turn::Calls(calls) => {
            answer.calls = calls.iter().map(|(name, args)| (name.clone(), args.to_string())).collect()
        }
        Turn::Mixed(text, name, args) => {
            answer.text = Some(text.clone());
            answer.calls = vec![(name.clone(), args.to_string())];
        }
        Turn::RawCall(name, args) => answer.calls = vec![(name.clone(), args.clone())],
        Turn::Endless => answer.text = Some("word ".repeat(2000)),
    }
    if !streaming {
        let body = answer.whole(wire).to_string();
        let cut = if matches!(turn, Turn::Truncated(_)) { body.len() / 2 } else { body.len() };
        if cut < body.len() {
            http::begin(stream, "application/json")?;
            http::chunk(stream, &body[..cut])?;
            return Ok(false);
        }
        http::respond(stream, 200, "application/json", "", body.as_bytes())?;
        return Ok(true);
    }
    let kind = if wire == Wire::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    http::begin(stream, kind)?;
    let events = answer.pieces(wire);
    // The end is what says that it is complete: a truncated answer stops before its second half.
    let count =
        if matches!(turn, Turn::Truncated(_) | Turn::Cut(_)) { events.len() / 2 } else { events.len() };
    for event in &events[..count] {
        http::chunk(stream, event)?;
        while matches!(turn, Turn::Endless) && event.contains("word ") {
            http::chunk(stream, event)?;
        }
    }
    if matches!(turn, Turn::Truncated(_)) {
        return Ok(false);
    }
    http::end(stream)?;
    Ok(true)
}

impl Answer {
    fn id(&self, n: usize) -> String {
        format!("call_{}_{n}", self.index)
    }

    /// Arguments as an object; formats that carry objects cannot carry anything else.
    fn object(args: &str) -> Value {
        serde_json::from_str(args).unwrap_or_else(|_| json!({ "broken": args }))
    }

    fn whole(&self, wire: Wire) -> Value {
        let numbered = || self.calls.iter().enumerate();
        match wire {
            Wire::OpenAi => {
                let calls: Vec<Value> = numbered()
                    .map(|(n, (name, args))| json!({ "id": self.id(n), "type": "function", "function": { "name": name, "arguments": args } }))
                    .collect();
                let mut message = json!({ "role": "assistant", "content": self.text });
                if !calls.is_empty() {
                    message["tool_calls"] = json!(calls);
                }
                json!({
                    "id": "c1", "object": "chat.completion", "model": "scripted",
                    "choices": [{ "index": 0, "message": message, "finish_reason": if calls.is_empty() { "stop" } else { "tool_calls" } }],
                    "usage": { "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 },
                })
            }
            Wire::Responses => self.response("completed"),
            Wire::Anthropic => {
                let mut content: Vec<Value> =
                    self.text.iter().map(|text| json!({ "type": "text", "text": text })).collect();
                content.extend(numbered().map(|(n, (name, args))| json!({ "type": "tool_use", "id": self.id(n), "name": name, "input": Self::object(args) })));
                json!({
                    "id": "m1", "type": "message", "role": "assistant", "model": "scripted", "content": content,
                    "stop_reason": if self.calls.is_empty() { "end_turn" } else { "tool_use" },
                    "usage": { "input_tokens": 100, "output_tokens": 10 },
                })
            }
            Wire::Gemini => {
                let mut parts: Vec<Value> = self.text.iter().map(|text| json!({ "text": text })).collect();
                parts.extend(self.calls.iter().map(
                    |(name, args)| json!({ "functionCall": { "name": name, "args": Self::object(args) } }),
                ));
                json!({
                    "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": "STOP", "index": 0 }],
                    "usageMetadata": { "promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110 },
                    "modelVersion": "scripted",
                })
            }
            Wire::Ollama => {
                let calls: Vec<Value> = self.calls.iter().map(|(name, args)| json!({ "function": { "name": name, "arguments": Self::object(args) } })).collect();
                let mut message =
                    json!({ "role": "assistant", "content": self.text.clone().unwrap_or_default() });
                if !calls.is_empty() {
                    message["tool_calls"] = json!(calls);
                }
                json!({
                    "model": "scripted", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": true,
                    "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 10,
                })
            }
        }
    }

    /// The answer of the responses format.
    fn response(&self, status: &str) -> Value {
        let mut output: Vec<Value> = self
            .text
            .iter()
            .map(|text| json!({ "type": "message", "id": "m1", "role": "assistant", "status": status, "content": [{ "type": "output_text", "text": text, "annotations": [] }] }))
            .collect();
        output.extend(self.calls.iter().enumerate().map(|(n, (name, args))| {
            json!({ "type": "function_call", "id": format!("f{n}"), "call_id": self.id(n), "name": name, "arguments": args, "status": status })
        }));
        json!({
            "id": "r1", "object": "response", "model": "scripted", "status": status, "output": output,
            "usage": { "input_tokens": 100, "output_tokens": 10, "total_tokens": 110 },
        })
    }

    /// The answer in pieces, as they go over the wire.
    fn pieces(&self, wire: Wire) -> Vec<String> {
        let data = |value: Value| format!("data: {value}\n\n");
        let event = |value: Value| {
            format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
        };
        let words: Vec<&str> = self.text.as_deref().map(words).unwrap_or_default();
        match wire {
            Wire::OpenAi => {
                let delta = |delta: Value, finish: Value| {
                    data(
                        json!({ "id": "c1", "object": "chat.completion.chunk", "model": "scripted", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }),
                    )
                };
                let mut all = vec![delta(json!({ "role": "assistant", "content": "" }), Value::Null)];
                all.extend(words.iter().map(|word| delta(json!({ "content": word }), Value::Null)));
                for (n, (name, args)) in self.calls.iter().enumerate() {
                    all.push(delta(json!({ "tool_calls": [{ "index": n, "id": self.id(n), "type": "function", "function": { "name": name, "arguments": "" } }] }), Value::Null));
                    all.extend(halves(args).map(|half| {
                        delta(
                            json!({ "tool_calls": [{ "index": n, "function": { "arguments": half } }] }),
                            Value::Null,
                        )
                    }));
                }
                let finish = match (self.length, self.calls.is_empty()) {
                    (true, _) => "length",
                    (_, true) => "stop",
                    _ => "tool_calls",
                };
                all.push(delta(json!({}), json!(finish)));
                all.push(data(json!({ "id": "c1", "object": "chat.completion.chunk", "model": "scripted", "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 } })));
                all.push("data: [DONE]\n\n".to_owned());
                all
            }
            Wire::Responses => {
                let mut all = vec![event(
                    json!({ "type": "response.created", "response": { "id": "r1", "status": "in_progress", "model": "scripted", "output": [] } }),
                )];
                all.extend(words.iter().map(|word| event(json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": word }))));
                for (n, (name, args)) in self.calls.iter().enumerate() {
                    let item = |args: &str| json!({ "type": "function_call", "id": format!("f{n}"), "call_id": self.id(n), "name": name, "arguments": args });
                    all.push(event(
                        json!({ "type": "response.output_item.added", "output_index": n, "item": item("") }),
                    ));
                    all.extend(halves(args).map(|half| event(json!({ "type": "response.function_call_arguments.delta", "output_index": n, "delta": half }))));
                    all.push(event(
                        json!({ "type": "response.output_item.done", "output_index": n, "item": item(args) }),
                    ));
                }
                all.push(event(
                    json!({ "type": "response.completed", "response": self.response("completed") }),
                ));
                all
            }
            Wire::Anthropic => {
                let mut all = vec![event(
                    json!({ "type": "message_start", "message": { "id": "m1", "type": "message", "role": "assistant", "model": "scripted", "content": [], "stop_reason": null, "usage": { "input_tokens": 100, "output_tokens": 1 } } }),
                )];
                let mut index = 0;
                if self.text.is_some() {
                    all.push(event(json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })));
                    all.extend(words.iter().map(|word| event(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } }))));
                    all.push(event(json!({ "type": "content_block_stop", "index": 0 })));
                    index = 1;
                }
                for (n, (name, args)) in self.calls.iter().enumerate() {
                    let at = index + n;
                    all.push(event(json!({ "type": "content_block_start", "index": at, "content_block": { "type": "tool_use", "id": self.id(n), "name": name, "input": {} } })));
                    all.extend(halves(args).map(|half| event(json!({ "type": "content_block_delta", "index": at, "delta": { "type": "input_json_delta", "partial_json": half } }))));
                    all.push(event(json!({ "type": "content_block_stop", "index": at })));
                }
                all.push(event(json!({ "type": "message_delta", "delta": { "stop_reason": if self.calls.is_empty() { "end_turn" } else { "tool_use" } }, "usage": { "output_tokens": 10 } })));
                all.push(event(json!({ "type": "message_stop" })));
                all
            }
            Wire::Gemini => {
                let part = |parts: Value| {
                    data(
                        json!({ "candidates": [{ "content": { "role": "model", "parts": parts }, "index": 0 }], "modelVersion": "scripted" }),
                    )
                };
                let mut all: Vec<String> = words.iter().map(|word| part(json!([{ "text": word }]))).collect();
                all.extend(self.calls.iter().map(|(name, args)| {
                    part(json!([{ "functionCall": { "name": name, "args": Self::object(args) } }]))
                }));
                all.push(data(json!({
                    "candidates": [{ "content": { "role": "model", "parts": [{ "text": "" }] }, "finishReason": "STOP", "index": 0 }],
                    "usageMetadata": { "promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110 },
                })));
                all
            }
            Wire::Ollama => {
                let line = |message: Value| {
                    format!(
                        "{}\n",
                        json!({ "model": "scripted", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": false })
                    )
                };
                let mut all: Vec<String> =
                    words.iter().map(|word| line(json!({ "role": "assistant", "content": word }))).collect();
                all.extend(self.calls.iter().map(|(name, args)| line(json!({ "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": name, "arguments": Self::object(args) } }] }))));
                all.push(format!("{}\n", json!({ "model": "scripted", "created_at": "2026-01-01T00:00:00Z", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 10 })));
                all
            }
        }
    }
}

/// Text cut behind each space.
fn words(text: &str) -> Vec<&str> {
    text.split_inclusive(' ').collect()
}

fn halves(text: &str) -> impl Iterator<Item = &str> {
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (first, second) = text.split_at(middle);
    [first, second].into_iter().filter(|half| !half.is_empty())
}
