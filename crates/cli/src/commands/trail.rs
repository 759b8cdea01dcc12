//! What a run comes to: the trail for people, and the result for programs.

use std::path::Path;
use std::time::Duration;

use agent::Summary;
use gate::Usage;
use serde::Serialize;

use crate::exit::Exit;
use crate::home::short;
use crate::terminal::{self, BAD, DIM, WARN, styled};

/// Items of a list that are shown.
const SHOWN: usize = 12;

/// What a run came to. Serialised for `--output json` and as the last line of `--output stream-json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "result")]
pub(crate) struct Trail {
    /// Identifier of the session.
    pub(crate) session: String,
    /// `done`, `failed`, `stopped`, `refused`, `unreachable` or `interrupted`.
    pub(crate) outcome: &'static str,
    /// Exit status.
    pub(crate) exit: i32,
    /// The model's last words.
    pub(crate) answer: String,
    /// Why it stopped, when not because the model was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What was changed, run and refused.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Where data went: `host:port` of each server.
    pub(crate) network: Vec<String>,
    /// Model calls.
    pub(crate) steps: u64,
    /// Tokens sent.
    pub(crate) input_tokens: u64,
    /// Tokens produced.
    pub(crate) output_tokens: u64,
    /// US dollars; absent when the model's price is not known.
    pub(crate) cost_usd: Option<f64>,
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// Where it is recorded.
    pub(crate) ledger: Range,
}

/// Entries of the ledger.
#[derive(Debug, Serialize)]
pub(crate) struct Range {
    /// Its directory.
    pub(crate) directory: String,
    /// First entry of the session.
    pub(crate) first: u64,
    /// Last entry of the session.
    pub(crate) last: u64,
}

/// Dollars from millionths.
#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52")]
pub(crate) fn dollars(usage: Usage) -> f64 {
    usage.cost_micro_usd as f64 / 1e6
}

impl Trail {
    /// Shows it on standard error.
    pub(crate) fn show(&self, ledger: &Path, elapsed: Duration) {
        let row = |name: &str, text: &str| {
            terminal::errln(&format!("{} {}", styled(DIM, format!("{name:<9}")), terminal::safe(text)));
        };
        terminal::errln("");
        for refusal in &self.summary.refused {
            let why =
                if refusal.unanswered { "nobody was there to approve it" } else { refusal.reason.as_str() };
            let text = format!("{}: {why} ({})", refusal.action, refusal.rule);
            terminal::errln(&format!("{} {}", styled(BAD, "refused  "), terminal::line(&text, 400)));
        }
        if let Some(reason) = &self.reason {
            terminal::errln(&format!("{} {}", styled(WARN, "stopped  "), terminal::safe(reason)));
        }
        row("changed", &list(self.summary.changed.iter().cloned()));
        if !self.summary.deleted.is_empty() {
            row("deleted", &list(self.summary.deleted.iter().cloned()));
        }
        let commands = self.summary.commands.iter().map(|(line, code)| match code {
            0 => terminal::line(line, 80),
            code => format!("{} (exit {code})", terminal::line(line, 80)),
        });
        row("ran", &list(commands));
        row("network", &list(self.network.iter().cloned()));
        let cost = self.cost_usd.map_or_else(|| "cost not known".to_owned(), |usd| format!("${usd:.4}"));
        row(
            "used",
            &format!(
                "{} step{}, {} + {} tokens, {cost}, {:.1} s",
                self.steps,
                if self.steps == 1 { "" } else { "s" },
                terminal::thousands(self.input_tokens),
                terminal::thousands(self.output_tokens),
                elapsed.as_secs_f64()
            ),
        );
        row("ledger", &format!("entries {} to {} in {}", self.ledger.first, self.ledger.last, short(ledger)));
    }
}

/// Items on one line.
fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "nothing".to_owned(),
        n if n > SHOWN => format!("{} and {} more", items[..SHOWN].join(", "), n - SHOWN),
        _ => items.join(", "),
    }
}

/// What an exit status means, for programs.
pub(crate) fn outcome(exit: Exit, limited: bool) -> &'static str {
    match exit {
        Exit::DONE => "done",
        Exit::REFUSED if limited => "stopped",
        Exit::REFUSED => "refused",
        Exit::UNREACHABLE => "unreachable",
        exit if exit.code() > 128 => "interrupted",
        _ => "failed",
    }
}
