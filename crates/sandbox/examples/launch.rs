//! Runs `true` in the sandbox once for every line of standard input, the way a running agent does: through a gate with
//! a ledger, the program already started. Prints two numbers for each: microseconds from the authorised command to its
//! end, and microseconds of processor time of everything that took part. For `cargo xtask bench-sandbox`.

use std::cell::Cell;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use action::{Actor, Autonomy, Command, Root, SessionId};
use gate::{Gate, Limits, Nobody};
use ledger::Ledger;
use nix::sys::resource::{UsageWho, getrusage};
use policy::Policy;
use sandbox::Io;

fn main() -> Result<(), Box<dyn Error>> {
    let first = std::env::args_os().nth(1);
    if first.as_ref().is_some_and(|argument| argument == sandbox::LAUNCHER_ARG) {
        sandbox::launcher_main();
    }
    let workspace = PathBuf::from(first.ok_or("usage: launch WORKSPACE")?);
    let state = tempfile::tempdir()?;
    let actor = Actor { person: "nobody".into(), agent: "launch".into(), session: SessionId::new("launch") };
    let policy = Policy::new(Autonomy::Auto);
    let gate = Gate::new(actor, policy, Limits::default(), Box::new(Nobody), Ledger::open(state.path())?);
    let root = Root::open(&workspace)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let effect = Command {
            argv: vec!["true".into()],
            directory: root.resolve(".")?,
            profile: "workspace".into(),
            privileges: Vec::new(),
            timeout: None,
        };
        let took = Cell::new((0, 0));
        let ran = gate.perform(effect, async |command| {
            let (start, used) = (Instant::now(), processor_time());
            let ran = sandbox::run(command, Io::Captured { limit: 4096, tap: None }).await;
            took.set((start.elapsed().as_micros(), processor_time() - used));
            ran
        });
        let ran = runtime.block_on(ran)?.value;
        if ran.code() != 0 {
            return Err(format!("`true` ended with {:?}: {}", ran.exit, ran.output.text()).into());
        }
        let (wall, processor) = took.get();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{wall} {processor}")?;
        out.flush()?;
    }
    Ok(())
}

/// Microseconds that this process and everything that it has waited for have used.
fn processor_time() -> i64 {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .flat_map(|usage| [usage.user_time(), usage.system_time()])
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum()
}
