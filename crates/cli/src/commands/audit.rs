//! `varvel audit`: reading and checking the ledger.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ledger::{Entries, verify};
use serde_json::{Value, json};

use crate::args::AuditVerb;
use crate::exit::{Exit, Failure};
use crate::home::{Home, short};
use crate::terminal::{self, BAD, BOLD, DIM, GOOD, WARN, styled};

/// Problems that are listed.
const SHOWN: usize = 20;
/// Characters of each part of an entry that are shown.
const WIDTH: usize = 200;

pub(crate) fn audit(verb: AuditVerb) -> Result<Exit, Failure> {
    let home = Home::find()?;
    match verb {
        AuditVerb::Verify { json } => check(&home, json),
        AuditVerb::Log { last, session, json } => log(&home, last, session.as_deref(), json),
    }
}

fn check(home: &Home, as_json: bool) -> Result<Exit, Failure> {
    let directory = home.ledger();
    let report = verify(&directory)?;
    let exit = if report.holds() { Exit::DONE } else { Exit::FAILED };
    if as_json {
        let problems: Vec<_> =
            report.problems.iter().map(|p| json!({ "line": p.line, "what": p.what })).collect();
        let report = json!({
            "holds": report.holds(), "directory": directory.display().to_string(), "entries": report.entries,
            "head": report.head, "interrupted": report.interrupted, "unfinished_bytes": report.unfinished_bytes,
            "problems": problems,
        });
        terminal::outln(&report.to_string());
        return Ok(exit);
    }
    for problem in report.problems.iter().take(SHOWN) {
        terminal::outln(&format!(
            "{} line {}: {}",
            styled(BAD, "wrong"),
            problem.line,
            terminal::safe(&problem.what)
        ));
    }
    if report.problems.len() > SHOWN {
        terminal::outln(&format!("... and {} more", report.problems.len() - SHOWN));
    }
    for intent in &report.interrupted {
        terminal::outln(&format!(
            "{} entry {intent} was begun and its end is not known (the process was killed)",
            styled(WARN, "note")
        ));
    }
    if report.unfinished_bytes > 0 {
        terminal::outln(&format!(
            "{} the last {} bytes are half an entry (the process was killed while writing)",
            styled(WARN, "note"),
            report.unfinished_bytes
        ));
    }
    let verdict = if report.holds() {
        styled(GOOD, "The ledger holds.")
    } else {
        styled(BAD, "The ledger does not hold.")
    };
    let head =
        report.head.as_deref().map_or_else(|| "none".to_owned(), |head| head.chars().take(16).collect());
    terminal::outln(&format!(
        "{verdict} {} entries in {}, head {head}",
        terminal::thousands(report.entries),
        short(&directory)
    ));
    Ok(exit)
}

fn log(home: &Home, last: Option<usize>, session: Option<&str>, as_json: bool) -> Result<Exit, Failure> {
    let mut lines = VecDeque::new();
    let mut intents = HashSet::new();
    for entry in Entries::open(&home.ledger())? {
        if let Some(wanted) = session {
            // Outcomes name their intent, not their session.
            let chosen = match entry.pointer("/record/actor/session").and_then(Value::as_str) {
                Some(id) => id.starts_with(wanted),
                None => entry["record"]["intent"].as_u64().is_some_and(|intent| intents.contains(&intent)),
            };
            if !chosen {
                continue;
            }
            intents.extend(entry["seq"].as_u64());
        }
        let shown = if as_json { entry.to_string() } else { describe(&entry) };
        match last {
            // Nothing to wait for, and the ledger may be large.
            None => terminal::outln(&shown),
            Some(last) => {
                lines.push_back(shown);
                if lines.len() > last {
                    lines.pop_front();
                }
            }
        }
    }
    lines.iter().for_each(|line| terminal::outln(line));
    Ok(Exit::DONE)
}

/// One entry for people.
fn describe(entry: &Value) -> String {
    let record = &entry["record"];
    let text = |at: &str| record.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let time = entry["time"].as_str().unwrap_or_default();
    let time = time.parse::<Timestamp>().map_or_else(
        |_| time.to_owned(),
        |time| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    );
    let clip = |text: &str| terminal::line(text, WIDTH);
    let what = match text("/type") {
        "session-start" => {
            let who = format!(
                "session {} of {} ({})",
                text("/actor/session"),
                text("/actor/person"),
                text("/actor/agent")
            );
            format!("{} {}", styled(BOLD, clip(&who)), clip(&facts(&record["about"], &[])))
        }
        "session-end" => format!("session ended: {}", clip(&facts(&record["about"], &[]))),
        "intent" => {
            let verdict = match text("/approval/scope") {
                "" => text("/decision/verdict").to_owned(),
                scope => format!("{} said yes ({scope})", text("/approval/by")),
            };
            let verdict = format!("{verdict}: {}", text("/decision/rule"));
            format!("{}  {}", clip(&summary(&record["action"])), styled(DIM, clip(&verdict)))
        }
        "refused" => {
            let action = clip(&summary(&record["action"]));
            format!("{} {action}  {}", styled(BAD, "refused"), styled(DIM, clip(text("/decision/rule"))))
        }
        "outcome" => {
            let style = if text("/status") == "done" { GOOD } else { WARN };
            let known = ["type", "intent", "status"];
            let status = styled(style, clip(text("/status")));
            format!("  {status} ({}) {}", record["intent"], styled(DIM, clip(&facts(record, &known))))
        }
        _ => clip(&facts(record, &[])),
    };
    format!("{:>6}  {}  {what}", entry["seq"].as_u64().unwrap_or_default(), styled(DIM, clip(&time)))
}

/// The fields of an object but those in `without`, for people.
fn facts(value: &Value, without: &[&str]) -> String {
    let fields = value.as_object().into_iter().flatten();
    let facts: Vec<_> = fields
        .filter(|(name, value)| !value.is_null() && !without.contains(&name.as_str()))
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), plain(value)))
        .collect();
    facts.join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An action as it is stored, in a few words.
fn summary(action: &Value) -> String {
    let text = |name: &str| plain(&action[name]);
    match action["kind"].as_str().unwrap_or_default() {
        "command" => {
            let argv: Vec<_> = action["argv"].as_array().into_iter().flatten().map(plain).collect();
            match argv.as_slice() {
                [shell, flag, line] if shell == "/bin/sh" && flag == "-c" => format!("run {line}"),
                _ => format!("run {}", argv.join(" ")),
            }
        }
        "model-call" => format!("ask {} {} ({} bytes)", text("provider"), text("model"), text("bytes")),
        "network" => format!("fetch {}", text("url")),
        "connect" => {
            let at = format!(
                "{}:{}",
                plain(&action["destination"]["host"]),
                plain(&action["destination"]["port"])
            );
            match (action["method"].as_str(), action["path"].as_str()) {
                (Some(method), Some(path)) => format!("{method} {path} at {at}"),
                _ => format!("connect to {at} ({})", text("via")),
            }
        }
        "commit" => {
            let count = action["changes"].as_array().map_or(0, Vec::len);
            format!("commit {count} staged changes of {}", text("stage"))
        }
        kind => format!("{} {}", kind.trim_start_matches("file-"), text("path")),
    }
}
