//! `cargo xtask`: checks and measurements of this repository.

mod architecture;
mod bench;
mod licences;
mod repair;
mod sandbox_bench;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Anything that went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: cargo xtask <command>
  check                          dependency edges, unsafe, raw processes, HTTP and file writes
  licences                       every dependency's licence against deny.toml
  bench [--runs N]               start, tool turn, memory and request size of the release build
  bench-sandbox [--runs N]       what `true` costs confined, beside bwrap and srt (SRT names its program)
  repair [--model M] [--runs N]  how many bugs of examples/repair the embedded model fixes
  quickstart [--runs N]          how often it fixes examples/quickstart
varvel and varvel-llm-worker are taken from VARVEL_BIN, else from the release build.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option =
        |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    let runs = |default: usize| option("--runs").and_then(|text| text.parse().ok()).unwrap_or(default);
    let result = match args.first().map(String::as_str) {
        Some("check") => architecture::check(),
        Some("licences") => licences::check(),
        Some("bench") => bench::bench(runs(20)),
        Some("bench-sandbox") => sandbox_bench::bench_sandbox(runs(40)),
        Some("repair") => repair::repair(option("--model").as_deref(), runs(1)),
        Some("quickstart") => repair::quickstart(option("--model").as_deref(), runs(10)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// The program to measure.
fn varvel() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let path = std::env::var_os("VARVEL_BIN").map_or_else(|| target.join("release/varvel"), PathBuf::from);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is not there; build it with: cargo build --release -p cli", path.display()).into())
    }
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
