//! `varvel doctor`: what works here, shown by doing it.

use std::time::Duration;

use action::{Command, Root};
use models::Store;
use sandbox::Io;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::home::{Home, short};
use crate::terminal::{self, BAD, DIM, GOOD, WARN, styled};
use crate::{model, sessions};

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Something optional is missing.
    Optional,
    Bad,
}

struct Finding {
    name: &'static str,
    state: State,
    detail: String,
}

/// What a confined command must not be able to do: the canaries. Each prints its name when the wall is missing.
const CANARIES: &str = "\
[ -e \"$OUTSIDE\" ] && echo 'it sees files outside the workspace'
( : > /usr/varvel-canary ) 2>/dev/null && echo 'it writes to the system'
tail -n +3 /proc/net/dev | grep -qv '^ *lo:' && echo 'it has a network device'
[ -n \"$VARVEL_API_KEY$AWS_SECRET_ACCESS_KEY$SSH_AUTH_SOCK\" ] && echo 'it sees the environment'
[ -e /proc/1/root/sys/class ] && echo 'it sees the host'
exit 0";

pub(crate) async fn doctor(as_json: bool) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    let home = Home::find()?;
    findings.push(match home.config() {
        Ok(_) if home.config_file().exists() => good("configuration", short(home.config_file())),
        Ok(_) => {
            good("configuration", format!("none at {}; the defaults are used", short(home.config_file())))
        }
        Err(failure) => bad("configuration", failure.message),
    });
    match sessions::by_hand(&home, json!({ "doctor": true })) {
        Ok((gate, _)) => {
            findings.push(good("ledger", format!("can be written: {}", short(&home.ledger()))));
            findings.push(confined(&home, &gate).await);
            gate.end(json!({ "exit": 0 }))?;
            findings.push(ledger_holds(&home));
        }
        Err(failure) => findings.push(bad("ledger", failure.message)),
    }
    for check in sandbox::probe() {
        let state = if check.good { State::Good } else { State::Bad };
        findings.push(Finding { name: check.name, state, detail: check.detail });
    }
    findings.extend(embedded(&home));
    let failed = findings.iter().any(|finding| finding.state == State::Bad);
    show(&findings, as_json);
    Ok(if failed { Exit::FAILED } else { Exit::DONE })
}

/// Runs a confined command that tries to get out.
async fn confined(home: &Home, gate: &gate::Gate) -> Finding {
    const NAME: &str = "sandbox";
    let place = home.state().join("canary");
    if let Err(error) = workspace::create_private_dir(&place) {
        return bad(NAME, format!("{}: {error}", place.display()));
    }
    let root = match Root::open(&place) {
        Ok(root) => root,
        Err(error) => return bad(NAME, error.to_string()),
    };
    let outside = home.ledger().display().to_string();
    let script = format!("OUTSIDE='{}'\n{CANARIES}", outside.replace('\'', "'\\''"));
    let effect = match root.resolve(".") {
        Ok(directory) => Command {
            argv: vec!["/bin/sh".into(), "-c".into(), script],
            directory,
            profile: "workspace".into(),
            privileges: Vec::new(),
            timeout: Some(Duration::from_secs(20)),
        },
        Err(error) => return bad(NAME, error.to_string()),
    };
    let io = Io::Captured { limit: 4096, tap: None };
    match gate.perform(effect, async |command| sandbox::run(command, io).await).await {
        Ok(ran) => {
            let text = ran.value.output.text();
            let ms = ran.value.duration.as_millis();
            match text.trim() {
                "" if ran.value.code() == 0 => {
                    good(NAME, format!("a confined command ran in {ms} ms and could not get out"))
                }
                "" => bad(NAME, format!("a confined command ended with {}", ran.value.code())),
                escaped => bad(NAME, format!("a wall is missing: {}", escaped.replace('\n', "; "))),
            }
        }
        Err(error) => bad(NAME, error.to_string()),
    }
}

fn ledger_holds(home: &Home) -> Finding {
    match ledger::verify(&home.ledger()) {
        Ok(report) if report.holds() => good("record", format!("{} entries, and they hold", report.entries)),
        Ok(_) => bad("record", "the ledger does not hold; run: varvel audit verify".into()),
        Err(error) => bad("record", error.to_string()),
    }
}

fn embedded(home: &Home) -> Vec<Finding> {
    let store = Store::new(home.state());
    let worker = model::worker();
    let worker = if worker.is_file() {
        good("model worker", short(&worker))
    } else {
        optional(
            "model worker",
            "not built; scripts/quickstart builds it (other providers work without)".into(),
        )
    };
    let here: Vec<_> = llm::weights().iter().filter(|weights| store.has(weights)).collect();
    let weights = match here.as_slice() {
        [] => optional("embedded model", "none here; run: varvel model pull".into()),
        some => {
            let names: Vec<_> = some.iter().map(|weights| weights.name).collect();
            good("embedded model", names.join(", "))
        }
    };
    vec![worker, weights]
}

fn show(findings: &[Finding], as_json: bool) {
    if as_json {
        let all: Vec<_> = findings
            .iter()
            .map(|f| json!({ "name": f.name, "good": f.state != State::Bad, "detail": f.detail }))
            .collect();
        terminal::outln(&json!(all).to_string());
        return;
    }
    for Finding { name, state, detail } in findings {
        let mark = match state {
            State::Good => styled(GOOD, "\u{2713}"),
            State::Optional => styled(WARN, "\u{2013}"),
            State::Bad => styled(BAD.bold(), "\u{2717}"),
        };
        terminal::outln(&format!("{mark} {name:<32} {}", styled(DIM, terminal::safe(detail))));
    }
}

fn good(name: &'static str, detail: String) -> Finding {
    Finding { name, state: State::Good, detail }
}

fn optional(name: &'static str, detail: String) -> Finding {
    Finding { name, state: State::Optional, detail }
}

fn bad(name: &'static str, detail: String) -> Finding {
    Finding { name, state: State::Bad, detail }
}
