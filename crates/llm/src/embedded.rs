//! The embedded model: llama.cpp in a process of its own, confined by the sandbox and then by itself.
//!
//! One JSON object a line each way; see `crates/llm-worker/README.md`.

use std::path::PathBuf;

use action::{ModelCall, Reach};
use gate::Authorized;
use sandbox::{Worker, spawn_worker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use crate::types::{
    ChatRequest, Completing, Event, Message, Model, ModelInfo, Reply, StopReason, TokenUsage,
};
use crate::{LlmError, Price, grammar};

/// Longest line accepted from the worker, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// Longest answer kept, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Where the embedded model is.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The worker program.
    pub worker: PathBuf,
    /// The weights, verified.
    pub weights: PathBuf,
    /// Name of the model.
    pub model: String,
    /// Context window in tokens.
    pub context_tokens: u64,
    /// Whether the model is small (up to about 4 billion parameters).
    pub small: bool,
}

/// The embedded model. The process starts with the first request.
pub struct Embedded {
    config: EmbeddedConfig,
    info: ModelInfo,
    process: Mutex<Option<Process>>,
}

struct Process {
    input: pipe::Sender,
    output: BufReader<tokio::io::Take<pipe::Receiver>>,
    worker: Worker,
    serial: u64,
}

#[derive(Serialize)]
struct Turn {
    role: &'static str,
    content: String,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Answer {
    Ready,
    Delta {
        text: String,
    },
    Done {
        finish: String,
        prompt_tokens: u64,
        #[serde(default)]
        reused_tokens: u64,
        output_tokens: u64,
    },
    Error {
        code: String,
        message: String,
        #[serde(default)]
        tokens: u64,
        #[serde(default)]
        window: u64,
    },
    Fatal {
        message: String,
    },
}

impl Embedded {
    /// Checks that worker and weights are there.
    ///
    /// # Errors
    /// If one is not.
    pub fn new(config: EmbeddedConfig) -> Result<Self, LlmError> {
        let missing = |what: String, fix: &str| LlmError::NotInstalled { what, fix: fix.to_owned() };
        if !config.weights.is_file() {
            let fix = format!("run `varvel model pull {}`", config.model);
            return Err(missing(format!("the model {}", config.model), &fix));
        }
        if !config.worker.is_file() {
            return Err(missing(
                "the model worker".into(),
                "run `scripts/quickstart`, or build crates/llm-worker and put varvel-llm-worker beside varvel",
            ));
        }
        let info = ModelInfo {
            provider: "embedded".into(),
            name: config.model.clone(),
            reach: Reach::Embedded,
            context_tokens: config.context_tokens,
            price: Some(Price::FREE),
            small: config.small,
        };
        Ok(Self { config, info, process: Mutex::new(None) })
    }

    async fn ask(
        &self,
        authorized: Authorized<ModelCall>,
        request: &ChatRequest,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Reply, LlmError> {
        let mut guard = self.process.lock().await;
        // Taken out while it works: if this future is dropped half-way, the process ends with it, and nobody reads
        // the rest of its answer for the beginning of the next.
        let mut process = match guard.take() {
            Some(process) => process,
            None => {
                on(Event::Loading);
                self.start(&authorized).await?
            }
        };
        process.serial += 1;
        let tools = &request.tools;
        let mut body = json!({
            "id": process.serial,
            "messages": turns(request),
            "max_tokens": request.max_output_tokens,
            "temperature": request.temperature.unwrap_or(0.0),
            "stop": request.stop,
        });
        if !tools.is_empty() {
            body["schema"] = grammar::schema(tools);
        }
        if let Some(seed) = request.seed {
            body["seed"] = seed.into();
        }
        if let Some(prefix) = request.prefix {
            body["assistant_prefix"] = prefix.into();
        }
        let result = process.converse(&body, tools.is_empty(), on).await;
        let serial = process.serial;
        // After a failure of its own it starts afresh next time.
        if !matches!(result, Err(LlmError::Worker { .. })) {
            *guard = Some(process);
        }
        let (text, finish, tokens) = result?;
        let (text, calls, mut stop) =
            if tools.is_empty() { (text, vec![], StopReason::Done) } else { grammar::parse(&text, serial) };
        if finish == "length" {
            stop = StopReason::Length;
        }
        if !tools.is_empty() && !text.is_empty() {
            on(Event::Text(&text));
        }
        Ok(Reply { text, reasoning: None, calls, stop, tokens, price: self.info.price })
    }

    async fn start(&self, authorized: &Authorized<ModelCall>) -> Result<Process, LlmError> {
        let args = [
            "serve".to_owned(),
            "--model".to_owned(),
            self.config.weights.to_string_lossy().into_owned(),
            "--ctx".to_owned(),
            self.config.context_tokens.to_string(),
        ];
        let data = [self.config.weights.clone()];
        let (worker, (input, output)) = spawn_worker(authorized, &self.config.worker, &args, &data)
            .map_err(|error| LlmError::Worker { why: error.to_string() })?;
        let output = BufReader::new(tokio::io::AsyncReadExt::take(output, MAX_LINE));
        let mut process = Process { input, output, worker, serial: 0 };
        match process.next().await? {
            Answer::Ready => Ok(process),
            Answer::Fatal { message } => Err(LlmError::Worker { why: message }),
            _ => Err(LlmError::Worker { why: "it spoke before it was ready".into() }),
        }
    }
}

impl Process {
    async fn converse(
        &mut self,
        body: &Value,
        show: bool,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(String, String, TokenUsage), LlmError> {
        let mut line = body.to_string();
        line.push('\n');
        self.input
            .write_all(line.as_bytes())
            .await
            .map_err(|error| LlmError::Worker { why: error.to_string() })?;
        let mut text = String::new();
        loop {
            match self.next().await? {
                Answer::Delta { text: piece } => {
                    if show {
                        on(Event::Text(&piece));
                    }
                    text.push_str(&piece);
                    if text.len() > MAX_ANSWER {
                        return Err(LlmError::Worker { why: "its answer does not end".into() });
                    }
                }
                Answer::Done { finish, prompt_tokens, reused_tokens, output_tokens } => {
                    let tokens =
                        TokenUsage { input: prompt_tokens, cached: reused_tokens, output: output_tokens };
                    return Ok((text, finish, tokens));
                }
                Answer::Error { code, tokens, window, .. } if code == "context_overflow" => {
                    return Err(LlmError::TooLong { tokens, window });
                }
                Answer::Error { message, .. } | Answer::Fatal { message } => {
                    return Err(LlmError::Worker { why: message });
                }
                Answer::Ready => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Answer, LlmError> {
        let mut line = String::new();
        self.output.get_mut().set_limit(MAX_LINE);
        let read = self.output.read_line(&mut line).await;
        match read {
            Ok(0) => Err(LlmError::Worker { why: format!("it ended: {}", self.worker.post_mortem().await) }),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| LlmError::Worker { why: format!("it said something unexpected: {error}") }),
            Err(error) => Err(LlmError::Worker { why: error.to_string() }),
        }
    }
}

impl Model for Embedded {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn complete<'a>(
        &'a self,
        authorized: Authorized<ModelCall>,
        request: &'a ChatRequest,
        on: &'a mut dyn FnMut(Event<'_>),
    ) -> Completing<'a> {
        Box::pin(self.ask(authorized, request, on))
    }
}

/// The conversation in the roles that a chat template knows.
fn turns(request: &ChatRequest) -> Vec<Turn> {
    let mut system = request.system.as_str().to_owned();
    if !request.tools.is_empty() {
        system.push_str(&grammar::describe(&request.tools));
    }
    let mut turns = vec![Turn { role: "system", content: system }];
    for message in &request.messages {
        turns.push(match message {
            Message::User(text) => Turn { role: "user", content: text.to_string() },
            Message::Assistant { text, calls, .. } => {
                let content = match calls.first() {
                    Some(call) => grammar::render(call),
                    None => text.to_string(),
                };
                Turn { role: "assistant", content }
            }
            Message::Tool { name, content, .. } => {
                Turn { role: "user", content: format!("Result of {name}:\n{content}") }
            }
        });
    }
    turns
}
