//! The providers that are known by name.

use genai::adapter::AdapterKind;

use crate::LlmError;

/// Where a provider is, if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// In a process of ours.
    Embedded,
    /// At this address.
    At(&'static str),
}

/// A provider.
#[derive(Debug, Clone, Copy)]
pub struct Provider {
    /// Its name, as in `--provider`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The model used when none is named.
    pub model: Option<&'static str>,
    /// Whether it wants a key.
    pub needs_key: bool,
    /// Context window in tokens that can be relied on.
    pub context_tokens: u64,
    pub(crate) adapter: AdapterKind,
}

const fn cloud(
    name: &'static str,
    about: &'static str,
    url: &'static str,
    model: Option<&'static str>,
    adapter: AdapterKind,
) -> Provider {
    Provider {
        name,
        about,
        endpoint: Endpoint::At(url),
        model,
        needs_key: true,
        context_tokens: 128_000,
        adapter,
    }
}

static PROVIDERS: &[Provider] = &[
    Provider {
        name: "embedded",
        about: "a small model on this machine, in a locked-in process (the default)",
        endpoint: Endpoint::Embedded,
        model: None,
        needs_key: false,
        context_tokens: 4096,
        adapter: AdapterKind::OpenAI,
    },
    cloud(
        "anthropic",
        "Anthropic messages",
        "https://api.anthropic.com/v1/",
        Some("claude-sonnet-4-5"),
        AdapterKind::Anthropic,
    ),
    cloud(
        "openai",
        "OpenAI chat completions; with --base-url any compatible server (vLLM, llama.cpp, LM Studio)",
        "https://api.openai.com/v1/",
        Some("gpt-5-mini"),
        AdapterKind::OpenAI,
    ),
    cloud(
        "openai-responses",
        "OpenAI responses",
        "https://api.openai.com/v1/",
        Some("gpt-5-mini"),
        AdapterKind::OpenAIResp,
    ),
    cloud(
        "gemini",
        "Google Gemini",
        "https://generativelanguage.googleapis.com/v1beta/",
        Some("gemini-2.5-flash"),
        AdapterKind::Gemini,
    ),
    cloud(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com/v1/",
        Some("deepseek-chat"),
        AdapterKind::DeepSeek,
    ),
    cloud("openrouter", "OpenRouter", "https://openrouter.ai/api/v1/", None, AdapterKind::OpenAI),
    Provider {
        name: "ollama",
        about: "an Ollama server",
        endpoint: Endpoint::At("http://localhost:11434/"),
        model: None,
        needs_key: false,
        context_tokens: 8192,
        adapter: AdapterKind::Ollama,
    },
];

/// All providers, the default first.
#[must_use]
pub fn providers() -> &'static [Provider] {
    PROVIDERS
}

/// The provider called `name`.
///
/// # Errors
/// If there is none.
pub fn provider(name: &str) -> Result<&'static Provider, LlmError> {
    PROVIDERS.iter().find(|provider| provider.name == name).ok_or_else(|| LlmError::NoSuchProvider {
        name: name.to_owned(),
        known: PROVIDERS.iter().map(|provider| provider.name).collect::<Vec<_>>().join(", "),
    })
}
