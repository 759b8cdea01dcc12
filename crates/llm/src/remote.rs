//! Models behind HTTP, through the genai library and our own client.

use std::time::Duration;

use action::{ModelCall, Reach};
use egress::Egress;
use futures_util::StreamExt;
use gate::Authorized;
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest as GenaiRequest, ChatStreamEvent, ContentPart, MessageContent,
    StopReason as GenaiStop, Tool, ToolCall as GenaiCall, ToolResponse, Usage as GenaiUsage,
};
use genai::resolver::{AuthData, Endpoint as GenaiEndpoint};
use genai::{Client, ModelIden, ServiceTarget};
use serde_json::Value;
use vault::{ExposeSecret, Secret};

use crate::catalog::{Endpoint, provider};
use crate::provider::{Failure, classify};
use crate::types::{
    ChatRequest, Completing, Event, Message, Model, ModelInfo, Reply, StopReason, TokenUsage, ToolCall,
};
use crate::{LlmError, Price};

/// Attempts for one request: the first, and three more after 429, 5xx or a failed connection.
const ATTEMPTS: u32 = 4;
/// Longest silence while an answer is expected.
const SILENCE: Duration = Duration::from_secs(300);
/// Longest answer kept, in bytes of text.
const MAX_ANSWER: usize = 8 << 20;
/// Most pieces of one answer: far more than any output limit lets through.
const MAX_PIECES: usize = 100_000;

/// What is needed to reach a model on a server.
#[derive(Debug, Default)]
pub struct RemoteConfig {
    /// Name of the provider.
    pub provider: String,
    /// Its address, where it differs from the usual one.
    pub base_url: Option<String>,
    /// The model, where it differs from the usual one.
    pub model: Option<String>,
    /// The key.
    pub key: Option<Secret>,
    /// Context window in tokens, where it is known better.
    pub context_tokens: Option<u64>,
    /// Price, where it is known better.
    pub price: Option<Price>,
}

/// A model on a server.
pub struct Remote {
    info: ModelInfo,
    target: ServiceTarget,
    encrypted: bool,
    egress: Egress,
}

impl Remote {
    /// Checks the configuration. Nothing is sent yet.
    ///
    /// # Errors
    /// If the provider is unknown, its address unusable, or a key missing or about to travel unencrypted.
    pub fn new(config: RemoteConfig) -> Result<Self, LlmError> {
        let known = provider(&config.provider)?;
        let mut url = match (config.base_url, known.endpoint) {
            (Some(url), _) => url,
            (None, Endpoint::At(url)) => url.to_owned(),
            (None, Endpoint::Embedded) => return Err(LlmError::NoBaseUrl { provider: config.provider }),
        };
        // The library joins paths to it.
        if !url.ends_with('/') {
            url.push('/');
        }
        let (destination, encrypted) = egress::destination(&url)?;
        let local = destination.is_loopback();
        let name = config
            .model
            .or_else(|| known.model.map(str::to_owned))
            .ok_or_else(|| LlmError::NoModel { provider: config.provider.clone() })?;
        let key = match config.key {
            Some(_) if !encrypted && !local => return Err(LlmError::Unencrypted { url }),
            Some(key) => key.expose_secret().to_owned(),
            None if known.needs_key && !local => return Err(LlmError::NoKey { provider: config.provider }),
            // The library insists on one; servers on this machine ignore it.
            None => "none".to_owned(),
        };
        let target = ServiceTarget {
            endpoint: GenaiEndpoint::from_owned(url),
            auth: AuthData::from_single(key),
            model: ModelIden::new(known.adapter, name.as_str()),
        };
        let price = config.price.or_else(|| if local { Some(Price::FREE) } else { Price::listed(&name) });
        let info = ModelInfo {
            provider: config.provider,
            small: is_small(&name),
            name,
            reach: Reach::Server(destination),
            context_tokens: config.context_tokens.unwrap_or(known.context_tokens),
            price,
        };
        Ok(Self { info, target, encrypted, egress: Egress::default() })
    }

    fn at(&self) -> String {
        match &self.info.reach {
            Reach::Server(destination) => destination.to_string(),
            Reach::Embedded => self.info.name.clone(),
        }
    }

    async fn ask(
        &self,
        client: &Client,
        request: &ChatRequest,
        seen: &mut bool,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Reply, Failure> {
        let options = options(request);
        // The library's Ollama adapter keeps one result of a message.
        let wire = wire(request, self.target.model.adapter_kind == AdapterKind::Ollama);
        if !request.stream {
            let response = client
                .exec_chat(self.target.clone(), wire, Some(&options))
                .await
                .map_err(|error| classify(&self.at(), &error))?;
            let usage = response.usage.clone();
            let reasoning = response.reasoning_content.clone();
            let stop = response.stop_reason.clone();
            let reply = self.reply(response.content, reasoning, usage, stop);
            on(Event::Text(&reply.text));
            return Ok(reply);
        }
        let mut stream = client
            .exec_chat_stream(self.target.clone(), wire, Some(&options))
            .await
            .map_err(|error| classify(&self.at(), &error))?
            .stream;
        let (mut received, mut pieces) = (0, 0);
        loop {
            let next = tokio::time::timeout(SILENCE, stream.next()).await;
            let next = next.map_err(|_| LlmError::Timeout { at: self.at(), seconds: SILENCE.as_secs() })?;
            let event = match next {
                // A complete answer ends with an end event.
                None => return Err(LlmError::Truncated { at: self.at() }.into()),
                Some(Err(error)) => return Err(self.broken(&error, *seen)),
                Some(Ok(event)) => event,
            };
            match event {
                ChatStreamEvent::Chunk(chunk) => {
                    *seen = true;
                    received += chunk.content.len();
                    on(Event::Text(&chunk.content));
                }
                ChatStreamEvent::ReasoningChunk(chunk) => {
                    received += chunk.content.len();
                    on(Event::Reasoning(&chunk.content));
                }
                ChatStreamEvent::End(end) => {
                    let content = end.captured_content.unwrap_or_else(|| MessageContent::from_parts(vec![]));
                    // The library ends every stream; one that was complete says why it stopped.
                    if end.captured_stop_reason.is_none() {
                        return Err(LlmError::Truncated { at: self.at() }.into());
                    }
                    let usage = end.captured_usage.unwrap_or_default();
                    return Ok(self.reply(
                        content,
                        end.captured_reasoning_content,
                        usage,
                        end.captured_stop_reason,
                    ));
                }
                _ => {}
            }
            pieces += 1;
            if received > MAX_ANSWER || pieces > MAX_PIECES {
                let why = format!("an answer of more than {} MB or {MAX_PIECES} pieces", MAX_ANSWER >> 20);
                return Err(LlmError::Protocol { at: self.at(), why }.into());
            }
        }
    }

    /// An error in the middle of an answer means that it broke off, whatever the library calls it.
    fn broken(&self, error: &genai::Error, seen: bool) -> Failure {
        match classify(&self.at(), error) {
            Failure { error: LlmError::Unreachable { at, .. }, .. } if seen => {
                LlmError::Truncated { at }.into()
            }
            other => other,
        }
    }

    fn reply(
        &self,
        content: MessageContent,
        reasoning: Option<String>,
        usage: GenaiUsage,
        stop: Option<GenaiStop>,
    ) -> Reply {
        let text = content.texts().concat();
        let calls: Vec<ToolCall> = content.into_tool_calls().into_iter().map(from_wire).collect();
        let count = |n: Option<i32>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
        let tokens = TokenUsage {
            input: count(usage.prompt_tokens),
            cached: count(cached),
            output: count(usage.completion_tokens),
        };
        let stop = match stop {
            _ if !calls.is_empty() => StopReason::ToolCalls,
            Some(GenaiStop::MaxTokens(_)) => StopReason::Length,
            Some(GenaiStop::ContentFilter(_)) => StopReason::Filtered,
            _ => StopReason::Done,
        };
        Reply { text, reasoning, calls, stop, tokens, price: self.info.price }
    }
}

impl Model for Remote {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn complete<'a>(
        &'a self,
        authorized: Authorized<ModelCall>,
        request: &'a ChatRequest,
        on: &'a mut dyn FnMut(Event<'_>),
    ) -> Completing<'a> {
        Box::pin(async move {
            let http = self.egress.for_model(&authorized, self.encrypted)?;
            let mut builder = Client::builder();
            if let Some(http) = http {
                builder = builder.with_reqwest(http);
            }
            let client = builder
                .build()
                .map_err(|error| LlmError::Protocol { at: self.at(), why: error.to_string() })?;
            let mut attempt = 1;
            loop {
                let mut seen = false;
                let failure = match self.ask(&client, request, &mut seen, on).await {
                    Ok(reply) => return Ok(reply),
                    Err(failure) => failure,
                };
                // Once something was shown, a second attempt would show it twice.
                if seen || attempt == ATTEMPTS || !failure.is_retryable() {
                    return Err(failure.error);
                }
                let wait = failure.pause(attempt);
                on(Event::Retry { attempt, seconds: wait.as_secs_f64(), why: &failure.error.to_string() });
                tokio::time::sleep(wait).await;
                attempt += 1;
            }
        })
    }
}

/// Models of up to about 4 billion parameters, by the size that open models carry in their names.
fn is_small(name: &str) -> bool {
    name.to_ascii_lowercase()
        .split(['-', ':', '_', '/'])
        .filter_map(|part| part.strip_suffix('b')?.parse::<f64>().ok())
        .any(|billions| billions <= 4.0)
}

fn options(request: &ChatRequest) -> ChatOptions {
    let mut options = ChatOptions::default()
        .with_max_tokens(request.max_output_tokens)
        .with_capture_usage(true)
        .with_capture_content(true)
        .with_capture_reasoning_content(true)
        .with_capture_tool_calls(true)
        .with_stop_sequences(request.stop.clone());
    if let Some(temperature) = request.temperature {
        options = options.with_temperature(temperature);
    }
    options
}

/// The request as the library wants it; `apart`: each result of a tool in a message of its own.
fn wire(request: &ChatRequest, apart: bool) -> GenaiRequest {
    let mut messages = Vec::with_capacity(request.messages.len());
    let mut results: Vec<ToolResponse> = Vec::new();
    for message in &request.messages {
        if let Message::Tool { id, name, content } = message {
            results.push(ToolResponse::new(id, content.as_str()).with_fn_name(name));
            if apart {
                messages.push(ChatMessage::from(std::mem::take(&mut results)));
            }
            continue;
        }
        if !results.is_empty() {
            messages.push(ChatMessage::from(std::mem::take(&mut results)));
        }
        match message {
            Message::User(text) => messages.push(ChatMessage::user(text.as_str())),
            Message::Assistant { text, reasoning, calls } => {
                let mut parts = Vec::new();
                if !text.as_str().is_empty() {
                    parts.push(ContentPart::Text(text.as_str().to_owned()));
                }
                parts.extend(calls.iter().map(|call| ContentPart::ToolCall(to_wire(call))));
                let message = ChatMessage::assistant(MessageContent::from_parts(parts));
                messages.push(message.with_reasoning_content(reasoning.as_ref().map(ToString::to_string)));
            }
            Message::Tool { .. } => {}
        }
    }
    if !results.is_empty() {
        messages.push(ChatMessage::from(results));
    }
    let mut wire = GenaiRequest::new(messages).with_system(request.system.as_str());
    if !request.tools.is_empty() {
        wire = wire.with_tools(request.tools.iter().map(|tool| {
            Tool::new(tool.name).with_description(tool.description).with_schema(tool.parameters.clone())
        }));
    }
    wire
}

fn to_wire(call: &ToolCall) -> GenaiCall {
    // Providers want an object; what was not JSON is passed on under a name of its own.
    let fn_arguments = match &call.arguments {
        Value::Object(_) => call.arguments.clone(),
        other => serde_json::json!({ "unparsed": other }),
    };
    GenaiCall {
        call_id: call.id.clone(),
        fn_name: call.name.clone(),
        fn_arguments,
        thought_signatures: call.signatures.clone(),
    }
}

fn from_wire(call: GenaiCall) -> ToolCall {
    ToolCall {
        id: call.call_id,
        name: call.fn_name,
        arguments: call.fn_arguments,
        signatures: call.thought_signatures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_are_known_by_name() {
        for name in ["qwen2.5-coder:1.5b", "Qwen2.5-Coder-0.5B-Instruct", "llama3.2:3b", "smollm2-1.7b"] {
            assert!(is_small(name), "{name}");
        }
        for name in ["gpt-5-mini", "qwen2.5-coder:32b", "claude-sonnet-4-5", "stub", "deepseek-r1:14b"] {
            assert!(!is_small(name), "{name}");
        }
    }

    #[test]
    fn keys_do_not_travel_in_the_clear_and_are_not_assumed() {
        let config = |url: Option<&str>, key: Option<&str>| RemoteConfig {
            provider: "openai".into(),
            base_url: url.map(Into::into),
            key: key.map(Into::into),
            ..RemoteConfig::default()
        };
        assert!(matches!(Remote::new(config(None, None)), Err(LlmError::NoKey { .. })));
        assert!(matches!(
            Remote::new(config(Some("http://example.org"), Some("k"))),
            Err(LlmError::Unencrypted { .. })
        ));
        assert!(Remote::new(config(Some("http://127.0.0.1:1/v1"), Some("k"))).is_ok());
        assert!(Remote::new(config(Some("http://localhost:1/v1"), None)).is_ok());
        assert!(Remote::new(config(None, Some("k"))).is_ok());
    }
}
