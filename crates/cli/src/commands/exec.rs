//! `varvel exec`: one command, confined and recorded.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use action::{Command, Root};
use sandbox::{Exit as CommandExit, Io, StageDirs};
use serde_json::json;
use tools::Ran;
use workspace::Stage;

use super::stage::{Conclude, conclude, kept};
use crate::args::ExecArgs;
use crate::confinement::confinement;
use crate::exit::{Exit, Failure};
use crate::home::Home;
use crate::{sessions, signals, terminal};

/// Two Ctrl-C within this time end a command that takes the first for itself, as an interpreter does.
const TWICE: Duration = Duration::from_secs(1);

pub(crate) async fn exec(args: ExecArgs) -> Result<Exit, Failure> {
    let home = Home::find()?;
    let config = home.config()?;
    let root = home.workspace(&args.workspace)?;
    let confinement = confinement(&home, &config, &args.network)?;
    let directory = root.resolve(".").map_err(Failure::usage)?;
    let timeout = args.timeout.map(Duration::from_secs);
    let effect = confinement
        .command(args.command, directory, args.profile.as_deref(), timeout)
        .map_err(Failure::usage)?;
    let about = json!({ "workspace": action::printable(root.path()), "profile": effect.profile });
    let (gate, _) = sessions::command(&home, confinement.network.clone(), about)?;
    let stage = if args.stage { Some(staged(&home, &root, &effect)?) } else { None };
    let upper = stage.as_ref().map(|stage| StageDirs { upper: stage.upper(), work: stage.work() });
    let running =
        gate.perform(effect, async |command| confinement.run(&gate, command, Io::Inherited, upper).await);
    let ran = tokio::select! {
        ran = running => ran,
        exit = stopped() => {
            // The dropped future has killed everything the command started, and recorded that.
            let exit = exit?;
            let concluded = match stage {
                // Nobody is asked: they want to leave.
                Some(stage) => {
                    let how = if args.drop { Conclude::Drop } else { Conclude::Keep };
                    conclude(&gate, stage, &root, how).await.map(drop)
                }
                None => Ok(()),
            };
            gate.end(json!({ "exit": exit.code() }))?;
            return concluded.map(|()| exit);
        }
    };
    let ran: Result<Ran, Failure> = ran.map(|ran| ran.value).map_err(Failure::from);
    let exit = match &ran {
        Ok(ran) => Exit::from_code(ran.command.code()),
        Err(failure) => failure.exit,
    };
    if let Ok(ran) = &ran {
        explain(ran);
    }
    let concluded = match stage {
        // Nothing ran, so nothing was written.
        Some(stage) if ran.is_err() => stage.drop_changes().map_err(Failure::failed).map(|()| exit),
        Some(stage) => {
            let how = match (args.commit, args.drop, args.keep) {
                (true, _, _) => Conclude::Commit,
                (_, true, _) => Conclude::Drop,
                (_, _, true) => Conclude::Keep,
                _ => Conclude::Ask,
            };
            let id = stage.id().to_owned();
            // A commit that has begun is not interrupted: it does not wait for anything.
            tokio::select! {
                concluded = conclude(&gate, stage, &root, how) => concluded.map(|_| exit),
                stopped = signals::interrupted()? => {
                    terminal::errln("");
                    kept(&id);
                    Ok(stopped)
                }
            }
        }
        None => Ok(exit),
    };
    let exit = concluded.as_ref().map_or_else(|failure| failure.exit, |exit| *exit);
    gate.end(json!({ "exit": exit.code() }))?;
    ran?;
    concluded
}

/// A stage for what the command will write.
fn staged(home: &Home, root: &Root, command: &Command) -> Result<Stage, Failure> {
    let mut stage = Stage::create(home.state(), root).map_err(Failure::failed)?;
    stage.set_note(&command.argv.join(" ")).map_err(Failure::failed)?;
    Ok(stage)
}

/// Says what was refused, and why it ended, where that is not plain.
fn explain(ran: &Ran) {
    for refusal in ran.refusals() {
        terminal::warn(&refusal);
    }
    match &ran.command.exit {
        CommandExit::Code(_) => {}
        CommandExit::TimedOut(limit) => {
            terminal::error(&format!("it ran longer than {} s and was stopped", limit.as_secs()));
        }
        CommandExit::Exceeded(what) => {
            terminal::error(&format!("it used more than {what} and was stopped"));
        }
    }
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
