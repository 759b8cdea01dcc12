//! Choosing the model.

use std::path::{Path, PathBuf};

use llm::{Embedded, EmbeddedConfig, LlmError, Model, Remote, RemoteConfig, Weights};
use models::Store;
use vault::Vault;

use crate::args::RunArgs;
use crate::config::Config;
use crate::exit::Failure;
use crate::home::Home;

/// File name of the embedded model's program.
pub(crate) const WORKER: &str = "varvel-llm-worker";

/// The model that the arguments and the configuration name.
pub(crate) fn choose(home: &Home, config: &Config, args: &RunArgs) -> Result<Box<dyn Model>, Failure> {
    let provider = match (&args.provider, &args.base_url) {
        (Some(name), _) => name.as_str(),
        // An address and nothing else: an OpenAI-compatible server.
        (None, Some(_)) => "openai",
        (None, None) => config.provider.as_deref().unwrap_or("embedded"),
    };
    let settings = config.providers.get(provider).cloned().unwrap_or_default();
    let known = llm::provider(provider).map_err(Failure::usage)?;
    let base_url = args.base_url.clone().or(settings.base_url);
    let model = args.model.clone().or(settings.model);
    if known.endpoint == llm::Endpoint::Embedded {
        if base_url.is_some() {
            return Err(Failure::usage(
                "the embedded model has no address; leave out --base-url or name another --provider",
            ));
        }
        return embedded(home, model.as_deref(), settings.context_tokens);
    }
    let price = model.as_deref().or(known.model).and_then(|name| config.prices.get(name)).copied();
    // A key is only looked for when it can be used; see `vault::Vault::key`.
    let key = Vault::new(home.state()).key(provider, settings.key_env.as_deref()).map_err(Failure::usage)?;
    let remote = Remote::new(RemoteConfig {
        provider: provider.to_owned(),
        base_url,
        model,
        key,
        context_tokens: settings.context_tokens,
        price,
    });
    Ok(Box::new(remote.map_err(Failure::usage)?))
}

fn embedded(
    home: &Home,
    model: Option<&str>,
    context_tokens: Option<u64>,
) -> Result<Box<dyn Model>, Failure> {
    let weights = weights(model)?;
    let store = Store::new(home.state());
    let path = store.ready(weights).map_err(|error| Failure::unreachable(no_model(&error)))?;
    let embedded = Embedded::new(EmbeddedConfig {
        worker: worker(),
        weights: path,
        model: weights.name.to_owned(),
        context_tokens: context_tokens.unwrap_or(weights.context_tokens),
        small: true,
    });
    Ok(Box::new(embedded.map_err(|error: LlmError| Failure::unreachable(error))?))
}

fn no_model(error: &models::StoreError) -> String {
    match error {
        models::StoreError::Absent { name } => format!(
            "the embedded model {name} is not here yet\n  pull it:           varvel model pull {name}\n  \
             or use another:    varvel run --provider anthropic|openai|gemini|ollama|... (see varvel run --help)"
        ),
        other => other.to_string(),
    }
}

/// The weights called `name`, or the default ones.
pub(crate) fn weights(name: Option<&str>) -> Result<&'static Weights, Failure> {
    let Some(name) = name else { return Ok(llm::default_weights()) };
    llm::weights_named(name).ok_or_else(|| {
        let known: Vec<_> = llm::weights().iter().map(|weights| weights.name).collect();
        Failure::usage(format!("there is no embedded model {name:?}; there are: {}", known.join(", ")))
    })
}

/// Where the worker is: named by `VARVEL_LLM_WORKER`, beside this program, or in `../libexec/varvel`.
pub(crate) fn worker() -> PathBuf {
    if let Some(path) = std::env::var_os("VARVEL_LLM_WORKER") {
        return PathBuf::from(path);
    }
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().unwrap_or(Path::new("/")).to_owned();
    let places = [beside.join(WORKER), beside.join("../libexec/varvel").join(WORKER)];
    let [first, _] = &places;
    places.iter().find(|path| path.is_file()).unwrap_or(first).clone()
}
