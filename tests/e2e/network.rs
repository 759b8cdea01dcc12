//! The network of confined commands: what goes out, what does not, and who is told. Servers are on this machine only.

mod agent;
mod proof;
mod settings;
mod traffic;
mod web;

use std::fs;

use crate::support::{Done, Place};

/// A profile that is meant for the client, so that an agent's plain line chooses it.
const CLIENT: &str =
    "extends = \"workspace\"\nnetwork = \"proxy\"\ncommand = [\"python3 client.py\", \"sh impatient.sh\"]\n";

/// A workspace with the client in it, and a profile for the client.
fn place() -> Place {
    let place = Place::new().with("client.py", include_str!("client.py"));
    settings(&place, "profiles/client.toml", CLIENT);
    place
}

/// Writes a file beside the configuration.
fn settings(place: &Place, name: &str, text: &str) {
    let path = place.home.path().join(".config/varvel").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// `varvel exec OPTIONS -- python3 client.py WORDS`.
fn client(place: &Place, options: &[&str], words: &[&str]) -> Done {
    let mut all = vec!["exec"];
    all.extend(options);
    all.extend(["--", "python3", "client.py"]);
    all.extend(words);
    place.call(all)
}

/// What was refused so far: destination, rule and how it was asked for.
fn refused(place: &Place) -> Vec<(String, String, String)> {
    let records = place.records("refused").into_iter().filter(|record| record["action"]["kind"] == "connect");
    records
        .map(|record| {
            let at = &record["action"]["destination"];
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let (host, port) = (text(&at["host"]), at["port"].as_u64().unwrap());
            let at = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            (at, text(&record["decision"]["rule"]), text(&record["action"]["via"]))
        })
        .collect()
}

/// Facts of the last command's outcome.
fn facts(place: &Place) -> serde_json::Value {
    let commands: Vec<_> = place
        .ledger()
        .into_iter()
        .filter(|entry| entry["record"]["action"]["kind"] == "command" && entry["record"]["type"] == "intent")
        .map(|entry| entry["seq"].clone())
        .collect();
    let mut outcomes = place.records("outcome").into_iter();
    outcomes.rfind(|record| record["intent"] == *commands.last().unwrap()).unwrap()
}
