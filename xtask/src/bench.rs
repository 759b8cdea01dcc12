//! Start, tool turn, memory and request size of the release build, against a scripted server on this machine.

use std::process::{Command, Stdio};
use std::time::Instant;

use scripted::{Server, Turn, Wire};
use serde_json::json;

use crate::{Result, median, varvel};

/// Tool turns of one run.
const TURNS: usize = 5;

pub(crate) fn bench(runs: usize) -> Result<bool> {
    let varvel = varvel()?;
    let (mut first, mut turn, mut memory, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut bare = Vec::new();
    // One more, whose numbers are not kept: it warms the caches.
    for run in 0..=runs {
        let home = tempfile::tempdir()?;
        let work = tempfile::tempdir()?;
        // Each call differs, or the run would be stopped for repeating itself.
        let mut turns: Vec<Turn> =
            (0..TURNS).map(|n| Turn::call("run", json!({ "command": format!("echo hi {n}") }))).collect();
        turns.push(Turn::text("done"));
        let server = Server::start(turns)?;
        let mut command = Command::new(&varvel);
        command.env_clear().env("PATH", std::env::var("PATH")?).env("HOME", home.path());
        command.args(["run", "--mode", "auto", "--output", "json", "--model", "scripted", "--base-url"]);
        command.arg(server.url(Wire::OpenAi)).arg("-C").arg(work.path()).arg("Say hi.");
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let peak = peak_of(child.id(), &mut child)?;
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("the run ended with {status}").into());
        }
        let requests = server.requests();
        if run == 0 {
            bytes = requests.first().map_or(0, |request| request.raw.len());
            continue;
        }
        first.push(requests[0].arrived.duration_since(started).as_secs_f64() * 1e3);
        for pair in requests.windows(2) {
            if let Some(answered) = pair[0].answered {
                turn.push(pair[1].arrived.duration_since(answered).as_secs_f64() * 1e3);
            }
        }
        memory.push(peak);
        let plain = Instant::now();
        Command::new("/bin/sh").args(["-c", "echo hi"]).stdout(Stdio::null()).status()?;
        bare.push(plain.elapsed().as_secs_f64() * 1e3);
    }
    println!("start to first request  {:6.1} ms   (median of {runs}; goal: under 40)", median(first));
    println!(
        "tool turn, `echo hi`    {:6.1} ms   (sandbox and ledger included; goal: under 15; sh alone: {:.1})",
        median(turn),
        median(bare)
    );
    println!("peak memory             {:6.1} MB   (goal: under 40)", median(memory));
    println!("first request           {bytes:6} bytes (goal: under 6000)");
    Ok(true)
}

/// Peak resident memory in MB, sampled until the process has printed its result.
fn peak_of(pid: u32, child: &mut std::process::Child) -> Result<f64> {
    let mut peak: f64 = 0.0;
    while child.try_wait()?.is_none() {
        if let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status"))
            && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:"))
            && let Some(kilobytes) = line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok())
        {
            peak = peak.max(kilobytes / 1024.0);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(peak)
}
