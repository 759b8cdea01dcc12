//! What it costs to run `true` confined, beside other ways of doing that. Everything is measured in turn, round by
//! round, so that whatever else the machine does falls on all of them alike.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use scripted::{Server, Turn, Wire};
use serde_json::json;
use tempfile::TempDir;

use crate::{Result, median, root, varvel};

/// Rounds that are not counted: they warm the caches.
const WARM: usize = 3;
/// Tool calls of one session of the agent, and sessions.
const TURNS: usize = 20;
const SESSIONS: usize = 3;

/// Milliseconds of one run: by the clock, and of processor time.
type Sample = (f64, f64);

/// One way to run `true`.
struct Case {
    name: &'static str,
    way: Way,
    works: bool,
    samples: Vec<Sample>,
}

enum Way {
    /// A program, started for each run.
    Program(Command),
    /// The example `launch` of the sandbox crate: a program that goes on running, and starts one for each line.
    Agent { _child: Ended, input: ChildStdin, output: BufReader<ChildStdout> },
}

/// A child that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the measured commands live.
struct Place {
    home: TempDir,
    work: TempDir,
}

impl Place {
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(self.work.path()).env_clear();
        command.env("PATH", std::env::var("PATH")?).env("HOME", self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }
}

pub(crate) fn bench_sandbox(runs: usize) -> Result<bool> {
    let place = Place { home: tempfile::tempdir()?, work: tempfile::tempdir()? };
    let varvel = varvel()?;
    let mut cases = Vec::new();
    let mut add = |name, way| cases.push(Case { name, way, works: false, samples: Vec::new() });

    add("fork and exec", Way::Program(place.command("true")?));
    match on_path("bwrap") {
        None => println!("bwrap: not installed (package bubblewrap)"),
        Some(bwrap) => {
            for (name, whole) in [("bwrap", false), ("bwrap, all that our profile shows", true)] {
                let mut command = place.command(&bwrap)?;
                bwrap_arguments(&mut command, &place, whole)?;
                add(name, Way::Program(command));
            }
        }
    }
    match std::env::var_os("SRT").map(PathBuf::from).or_else(|| on_path("srt")) {
        None => println!("srt: not installed (set SRT to its program)"),
        Some(srt) => {
            let settings = json!({ "network": { "allowedDomains": [], "deniedDomains": [] },
                "filesystem": { "denyRead": [], "allowWrite": ["."], "denyWrite": [] } });
            fs::write(place.home.path().join(".srt-settings.json"), settings.to_string())?;
            let mut command = place.command(srt)?;
            command.arg("true");
            add("srt, no network", Way::Program(command));
        }
    }
    let mut command = place.command(&varvel)?;
    command.args(["exec", "--", "true"]);
    add("varvel exec", Way::Program(command));
    add("varvel, launch inside a running agent", agent(&place)?);

    // Programs of others that do not work here are left out; ours have to.
    for case in &mut cases {
        match (case.way.run(), case.name.starts_with("varvel")) {
            (Ok(_), _) => case.works = true,
            (Err(error), true) => return Err(format!("{}: {error}", case.name).into()),
            (Err(error), false) => println!("{}: does not work here: {error}", case.name),
        }
    }
    cases.retain(|case| case.works);
    for round in 0..runs + WARM {
        for case in &mut cases {
            let sample = case.way.run().map_err(|error| format!("{}: {error}", case.name))?;
            if round >= WARM {
                case.samples.push(sample);
            }
        }
    }
    table(&cases, runs);
    println!(
        "varvel, a whole tool turn of `true`    {:8.2}      (HTTP, policy, ledger and sandbox; {SESSIONS} sessions of {TURNS} turns)",
        median(turns(&place, &varvel)?)
    );
    Ok(true)
}

impl Way {
    fn run(&mut self) -> Result<Sample> {
        match self {
            Self::Program(command) => {
                let (start, used) = (Instant::now(), children_time());
                let output = command.output()?;
                let sample = (start.elapsed().as_secs_f64() * 1e3, children_time() - used);
                if output.status.success() {
                    Ok(sample)
                } else {
                    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
                }
            }
            Self::Agent { input, output, .. } => {
                input.write_all(b"\n")?;
                let mut line = String::new();
                output.read_line(&mut line)?;
                let (wall, processor) = line.trim().split_once(' ').ok_or("it ended")?;
                Ok((wall.parse::<f64>()? / 1e3, processor.parse::<f64>()? / 1e3))
            }
        }
    }
}

fn table(cases: &[Case], runs: usize) {
    let base = cases.iter().find(|case| case.name == "bwrap").map(|case| median_of(case, |sample| sample.0));
    println!("`true`, {runs} runs each, in turn; milliseconds");
    println!("{:38} {:>8} {:>8} {:>8} {:>8}", "", "median", "p90", "CPU", "/ bwrap");
    for case in cases {
        let wall = median_of(case, |sample| sample.0);
        let mut sorted: Vec<f64> = case.samples.iter().map(|sample| sample.0).collect();
        sorted.sort_by(f64::total_cmp);
        let p90 = sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(f64::NAN);
        let processor = median_of(case, |sample| sample.1);
        let ratio = base.map_or_else(|| "-".to_owned(), |base| format!("{:.2}", wall / base));
        println!("{:38} {wall:8.2} {p90:8.2} {processor:8.2} {ratio:>8}", case.name);
    }
}

fn median_of(case: &Case, part: impl Fn(&Sample) -> f64) -> f64 {
    median(case.samples.iter().map(part).collect())
}

/// The same namespaces as ours. `whole`: also every file of `/etc` and every empty directory that our profile has.
fn bwrap_arguments(command: &mut Command, place: &Place, whole: bool) -> Result<()> {
    for namespace in ["user", "pid", "net", "ipc", "uts", "cgroup"] {
        command.arg(format!("--unshare-{namespace}"));
    }
    command.args(["--die-with-parent", "--new-session"]);
    let profile = fs::read_to_string(root().join("crates/sandbox/profiles/workspace.toml"))?;
    let profile: toml::Table = profile.parse()?;
    let paths = profile.get("system").and_then(toml::Value::as_array).ok_or("the profile has no `system`")?;
    let small = ["/usr", "/bin", "/lib", "/lib64", "/etc/ssl/certs", "/etc/hosts", "/etc/ld.so.cache"];
    for path in paths.iter().filter_map(toml::Value::as_str) {
        if !whole && !small.contains(&path) {
            continue;
        }
        if let (Ok(link), 2) = (fs::read_link(path), Path::new(path).components().count()) {
            command.arg("--symlink").arg(link).arg(path);
        } else if Path::new(path).exists() {
            command.args(["--ro-bind", path, path]);
        }
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    if whole {
        command.args(["--tmpfs", "/dev/shm", "--tmpfs"]).arg(place.home.path());
    }
    let work = place.work.path();
    command.arg("--bind").args([work, work]).arg("--chdir").arg(work).args(["--", "true"]);
    Ok(())
}

/// Builds and starts the example `launch`.
fn agent(place: &Place) -> Result<Way> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "-p", "sandbox", "--example", "launch"]);
    if !build.current_dir(root()).status()?.success() {
        return Err("the example `launch` does not build".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = place.command(target.join("release/examples/launch"))?;
    command.arg(place.work.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let child = Ended(child);
    let (Some(input), Some(output)) = (input, output) else { return Err("it has no pipes".into()) };
    Ok(Way::Agent { _child: child, input, output: BufReader::new(output) })
}

/// Milliseconds from the answer that asks for a tool to the request that brings its result.
fn turns(place: &Place, varvel: &Path) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for _ in 0..SESSIONS {
        // Each call differs, or the run would be stopped for repeating itself.
        let call = |n| Turn::call("run", json!({ "command": format!("true {n}") }));
        let mut turns: Vec<Turn> = (0..TURNS).map(call).collect();
        turns.push(Turn::text("done"));
        let server = Server::start(turns)?;
        let mut command = place.command(varvel)?;
        command.args(["run", "--mode", "auto", "--model", "scripted", "--base-url"]);
        command.arg(server.url(Wire::OpenAi)).arg("Run true.");
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
        }
        for pair in server.requests().windows(2) {
            if let Some(answered) = pair[0].answered {
                found.push(pair[1].arrived.duration_since(answered).as_secs_f64() * 1e3);
            }
        }
    }
    Ok(found)
}

/// Milliseconds of processor time of everything that has been waited for.
fn children_time() -> f64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(f64::NAN, |usage| {
        [usage.user_time(), usage.system_time()]
            .into_iter()
            .map(|time| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3)
            .sum()
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
