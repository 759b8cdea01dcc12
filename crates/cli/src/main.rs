//! `varvel`: the command line. Everything is wired together here and nowhere else.

mod approve;
mod args;
mod commands;
mod config;
mod confinement;
mod exit;
mod grants;
mod home;
mod model;
mod sessions;
mod signals;
mod status;
mod terminal;

use clap::Parser;

use args::{Args, Verb};
use exit::{Exit, Failure};

/// Open files, where the machine lets us.
const MOST_FILES: u64 = 8192;

fn main() {
    // First of all: this program is also its own sandbox launcher, and what tries to get out of the sandbox.
    match std::env::args_os().nth(1) {
        Some(arg) if arg == sandbox::LAUNCHER_ARG => sandbox::launcher_main(),
        Some(arg) if arg == sandbox::CANARY_ARG => sandbox::canary_main(),
        _ => sandbox::plant_canary(),
    }
    protect_memory();
    many_files();
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
        Verb::Run(run) => wait_for(commands::run::run(*run)),
        Verb::Exec(exec) => wait_for(commands::exec::exec(exec)),
        Verb::Stage(verb) => wait_for(commands::stage::stage(verb)),
        Verb::Audit(verb) => commands::audit::audit(verb),
        Verb::Model(verb) => wait_for(commands::model::model(verb)),
        Verb::Sandbox(verb) => commands::sandbox::sandbox(verb),
        Verb::Network(verb) => commands::network::network(verb),
        Verb::Vault(verb) => commands::vault::vault(verb),
        Verb::Doctor { prove: true, json } => wait_for(commands::prove::prove(&home::Home::find()?, json)),
        Verb::Doctor { prove: false, json } => wait_for(commands::doctor::doctor(json)),
        Verb::Completions { shell } => commands::docs::completions(shell),
        Verb::Man { directory } => commands::docs::man(&directory),
    }
}

fn wait_for(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// The proxy holds two descriptors for each of many connections; the usual soft limit is 1024.
fn many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(Some(MOST_FILES), |most| Some(most.min(MOST_FILES)));
    // With the old limit it holds fewer connections at once; the others wait.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum });
}

/// Keys are in this process's memory: no core dumps, and no debugger of the same user.
fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Both only make reading this memory harder; neither failing is a reason not to work.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
