//! Canaries: a hostile program that tries to get out of the sandbox, and the playground that proves it could not.
//!
//! The program is Varvel itself, started again inside the sandbox with [`CANARY_ARG`]. It tries every way out that we
//! know of, by raw system calls where a library would stand in between, and prints one [`Line`] for each canary.
//! Outside, a [`Playground`] holds what it aims at: files, listeners, a process. An escape counts when either side
//! saw it; a canary that says nothing counts as an escape.

mod attempt;
mod bait;
mod brief;
mod evidence;
mod files;
mod kernel;
mod network;
mod playground;
mod privileges;
mod process;
mod proxy;
mod trusted;
mod ways;

use std::io::Write;

use serde::{Deserialize, Serialize};

use attempt::{Ended, isolated};

pub use attempt::{Outcome, Verdict};
pub use brief::Brief;
pub use evidence::Evidence;
pub use playground::Playground;

/// First argument that makes the program act as the canary. The second is a [`Brief`] as JSON.
pub const CANARY_ARG: &str = "__canary";
/// A variable that every process of Varvel outside the sandbox has.
pub(crate) const VARIABLE: &str = "VARVEL_CANARY";
/// Prefix of the argument that makes a bait: a process outside that lets itself be attacked.
pub(crate) const BAIT: &str = "bait-";
/// Prefix of the argument that makes a process that tries to outlive the command.
pub(crate) const LEFTOVER: &str = "leftover-";
/// Longest that one attempt may take, in seconds.
const LONGEST: u32 = 5;

/// One way out, and the attempt to take it.
pub struct Canary {
    /// Its name, unique.
    pub name: &'static str,
    /// What it belongs to: files, trusted files, network, processes, kernel.
    pub theme: &'static str,
    /// What is tried, for people.
    pub tried: &'static str,
    pub(crate) attempt: fn(&Brief) -> Verdict,
}

/// What the program inside says about one canary, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Name of the canary.
    pub name: String,
    /// How it went.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All canaries, theme after theme.
pub fn canaries() -> impl Iterator<Item = &'static Canary> {
    [files::ALL, trusted::ALL, network::ALL, process::ALL, privileges::ALL, kernel::ALL].into_iter().flatten()
}

/// The lines of a canary's output. What is not such a line is left out: it can only hide a result, and a result that
/// is missing is an escape.
#[must_use]
pub fn lines(output: &str) -> Vec<Line> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Puts a variable into the environment of this process that no confined command may ever see.
///
/// Call it first in `main`, while there is one thread.
pub fn plant_canary() {
    // SAFETY: the caller is the beginning of `main`: no other thread reads the environment.
    unsafe { std::env::set_var(VARIABLE, "planted") };
}

/// Runs as the canary and ends the process.
///
/// Call it before anything else in `main` when the first argument is [`CANARY_ARG`].
pub fn canary_main() -> ! {
    // Before this process opens anything itself.
    let inherited = privileges::descriptors();
    let instruction = std::env::args().nth(2).unwrap_or_default();
    if instruction.starts_with(BAIT) {
        bait::wait_for_the_end();
    }
    if instruction.starts_with(LEFTOVER) {
        std::thread::sleep(std::time::Duration::from_secs(60));
        std::process::exit(0);
    }
    let Ok(mut brief) = serde_json::from_str::<Brief>(&instruction) else {
        // Nothing is printed, so every canary counts as failed.
        std::process::exit(2);
    };
    brief.inherited = inherited;
    for canary in canaries().filter(|canary| brief.wants(canary.name)) {
        let verdict = match isolated(LONGEST, || (canary.attempt)(&brief)) {
            Ended::Said(verdict) => verdict,
            Ended::Killed(libc::SIGSYS) => Verdict::held("killed by seccomp"),
            Ended::Killed(libc::SIGALRM) => Verdict::error(format!("it hung for {LONGEST} s")),
            Ended::Killed(signal) => Verdict::error(format!("it was killed by signal {signal}")),
            Ended::Silent => Verdict::error("the attempt ended without a word"),
        };
        say(&Line { name: canary.name.to_owned(), verdict });
    }
    std::process::exit(0)
}

fn say(line: &Line) {
    if let Ok(mut bytes) = serde_json::to_vec(line) {
        bytes.push(b'\n');
        // If it cannot be said it is missing, and so counts as an escape.
        let _ = std::io::stdout().lock().write_all(&bytes).and_then(|()| std::io::stdout().flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        let mut names: Vec<_> = canaries().map(|canary| canary.name).collect();
        assert!(canaries().all(|canary| !canary.tried.is_empty() && !canary.theme.is_empty()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn lines_are_read_back_and_noise_is_not() {
        let line = Line { name: "tcp".into(), verdict: Verdict::held("ECONNREFUSED") };
        let text = format!("noise\n{}\n{{}}\n", serde_json::to_string(&line).unwrap());
        assert!(text.contains(r#"{"name":"tcp","result":"held","detail":"ECONNREFUSED"}"#), "{text}");
        assert_eq!(lines(&text), [line]);
    }
}
