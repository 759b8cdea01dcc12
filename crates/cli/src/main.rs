//! `varvel`: the command line. Everything is wired together here and nowhere else.

mod approve;
mod args;
mod commands;
mod config;
mod exit;
mod home;
mod model;
mod sessions;
mod signals;
mod status;
mod terminal;

use clap::Parser;

use args::{Args, Verb};
use exit::{Exit, Failure};

fn main() {
    // First of all: this program is also its own sandbox launcher.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == sandbox::LAUNCHER_ARG) {
        sandbox::launcher_main();
    }
    protect_memory();
    let args = Args::parse();
    let exit = start(args).unwrap_or_else(|failure| {
        terminal::error(&failure.message);
        failure.exit
    });
    // Not a return: a thread may still wait for an answer at the terminal.
    std::process::exit(exit.code());
}

fn start(args: Args) -> Result<Exit, Failure> {
    match args.verb {
        // These need no runtime.
        Verb::Completions { shell } => return commands::docs::completions(shell),
        Verb::Man { directory } => return commands::docs::man(&directory),
        Verb::Audit(verb) => return commands::audit::audit(verb),
        Verb::Vault(verb) => return commands::vault::vault(verb),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        match args.verb {
            Verb::Run(run) => commands::run::run(*run).await,
            Verb::Exec(exec) => commands::exec::exec(exec).await,
            Verb::Model(verb) => commands::model::model(verb).await,
            Verb::Doctor { json } => commands::doctor::doctor(json).await,
            Verb::Completions { .. } | Verb::Man { .. } | Verb::Audit(_) | Verb::Vault(_) => Ok(Exit::DONE),
        }
    });
    runtime.shutdown_background();
    result
}

/// Keys are in this process's memory: no core dumps, and no debugger of the same user.
fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Both only make reading this memory harder; neither failing is a reason not to work.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
