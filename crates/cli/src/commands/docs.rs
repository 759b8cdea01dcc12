//! `varvel completions` and `varvel man`: both come from the definition of the command line.

use std::path::Path;

use clap::CommandFactory;
use workspace::StateFile;

use crate::args::Args;
use crate::exit::{Exit, Failure};
use crate::terminal;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "varvel", &mut script);
    terminal::out(&String::from_utf8_lossy(&script));
    Ok(Exit::DONE)
}

pub(crate) fn man(directory: &Path) -> Result<Exit, Failure> {
    let mut root = Args::command();
    root.build();
    page(directory, "varvel", &root)?;
    for verb in root.get_subcommands().filter(|verb| verb.get_name() != "help") {
        page(directory, &format!("varvel-{}", verb.get_name()), verb)?;
        for inner in verb.get_subcommands().filter(|inner| inner.get_name() != "help") {
            page(directory, &format!("varvel-{}-{}", verb.get_name(), inner.get_name()), inner)?;
        }
    }
    Ok(Exit::DONE)
}

fn page(directory: &Path, name: &str, command: &clap::Command) -> Result<(), Failure> {
    let path = directory.join(format!("{name}.1"));
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.to_owned())).render(&mut text).map_err(failed)?;
    StateFile::write(&path, &text).map_err(failed)
}
