//! How often the embedded model repairs what the examples hold.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;

use crate::{Result, median, root, varvel};

#[derive(Deserialize)]
struct Bug {
    about: String,
    task: String,
}

/// What one run came to.
struct Run {
    fixed: bool,
    seconds: f64,
    tokens: u64,
}

pub(crate) fn repair(model: Option<&str>, runs: usize) -> Result<bool> {
    let mut directories: Vec<_> = fs::read_dir(root().join("examples/repair"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bug.toml").is_file())
        .collect();
    directories.sort();
    let (mut fixed, mut all, mut seconds) = (0, 0, Vec::new());
    for directory in &directories {
        let bug: Bug = toml::from_str(&fs::read_to_string(directory.join("bug.toml"))?)?;
        for _ in 0..runs {
            let run = once(directory, &bug.task, model)?;
            let mark = if run.fixed { "fixed    " } else { "not fixed" };
            println!("{mark} {:5.1} s {:6} tokens  {}", run.seconds, run.tokens, bug.about);
            fixed += usize::from(run.fixed);
            all += 1;
            seconds.push(run.seconds);
        }
    }
    println!(
        "{fixed} of {all} fixed, median {:.1} s ({})",
        median(seconds),
        model.unwrap_or("the default model")
    );
    Ok(true)
}

pub(crate) fn quickstart(model: Option<&str>, runs: usize) -> Result<bool> {
    let (mut fixed, mut seconds) = (0, Vec::new());
    for _ in 0..runs {
        let run =
            once(&root().join("examples/quickstart"), "The tests fail. Find the bug and fix it.", model)?;
        fixed += usize::from(run.fixed);
        seconds.push(run.seconds);
    }
    println!(
        "{fixed} of {runs} fixed, median {:.1} s ({})",
        median(seconds),
        model.unwrap_or("the default model")
    );
    Ok(true)
}

fn once(example: &Path, task: &str, model: Option<&str>) -> Result<Run> {
    let directory = tempfile::tempdir()?;
    for entry in fs::read_dir(example)?.flatten() {
        if entry.path().is_file() && entry.file_name() != "bug.toml" {
            fs::copy(entry.path(), directory.path().join(entry.file_name()))?;
        }
    }
    let mut command = Command::new(varvel()?);
    command
        .args(["run", "--mode", "auto", "--strategy", "repair", "--output", "json", "-C"])
        .arg(directory.path())
        .arg(task);
    if let Some(model) = model {
        command.args(["--model", model]);
    }
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let result: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    // Not by its own word: the tests are run once more, outside.
    let tests =
        Command::new("python3").args(["-m", "unittest", "-q"]).current_dir(directory.path()).output()?;
    let tokens = ["input_tokens", "output_tokens"].iter().filter_map(|name| result[*name].as_u64()).sum();
    if output.status.success() != tests.status.success() {
        return Err(format!("it says {result}, but the tests say otherwise").into());
    }
    Ok(Run { fixed: tests.status.success(), seconds: started.elapsed().as_secs_f64(), tokens })
}
