//! `varvel exec`: one command, confined and recorded.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use action::Command;
use sandbox::{CommandOutput, Exit as CommandExit, Io};
use serde_json::json;

use crate::args::ExecArgs;
use crate::exit::{Exit, Failure};
use crate::home::Home;
use crate::{sessions, signals, terminal};

/// Two Ctrl-C within this time end a command that takes the first for itself, as an interpreter does.
const TWICE: Duration = Duration::from_secs(1);

pub(crate) async fn exec(args: ExecArgs) -> Result<Exit, Failure> {
    let home = Home::find()?;
    let root = home.workspace(&args.workspace)?;
    let about = json!({ "workspace": action::printable(root.path()), "profile": args.profile });
    let (gate, _) = sessions::by_hand(&home, about)?;
    let effect = Command {
        argv: args.command,
        directory: root.resolve(".").map_err(Failure::usage)?,
        profile: args.profile,
        sockets: Vec::new(),
        timeout: args.timeout.map(Duration::from_secs),
    };
    let running = gate.perform(effect, async |command| sandbox::run(command, Io::Inherited).await);
    let ran = tokio::select! {
        ran = running => ran,
        exit = stopped() => {
            // The dropped future has killed everything the command started, and recorded that.
            let exit = exit?;
            gate.end(json!({ "exit": exit.code() }))?;
            return Ok(exit);
        }
    };
    let ran: Result<CommandOutput, Failure> = ran.map(|ran| ran.value).map_err(Failure::from);
    let exit = match &ran {
        Ok(ran) => Exit::from_code(ran.code()),
        Err(failure) => failure.exit,
    };
    gate.end(json!({ "exit": exit.code() }))?;
    match ran?.exit {
        CommandExit::Code(_) => {}
        CommandExit::TimedOut(limit) => {
            terminal::error(&format!("it ran longer than {} s and was stopped", limit.as_secs()));
        }
        CommandExit::Exceeded(what) => {
            terminal::error(&format!("it used more than {what} and was stopped"));
        }
    }
    Ok(exit)
}

/// Resolves when the person wants it ended. At a terminal the command gets every Ctrl-C itself, and decides; a
/// second one right after the first ends it.
async fn stopped() -> Result<Exit, Failure> {
    let at_terminal = std::io::stdin().is_terminal();
    let mut last: Option<Instant> = None;
    loop {
        let exit = signals::interrupted()?.await;
        let again = last.is_some_and(|last| last.elapsed() < TWICE);
        if !at_terminal || exit.code() != 130 || again {
            return Ok(exit);
        }
        last = Some(Instant::now());
    }
}
