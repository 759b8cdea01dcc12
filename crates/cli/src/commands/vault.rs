//! `varvel vault`: keys for model providers.

use std::io::{self, IsTerminal, Read};

use vault::Vault;
use zeroize::Zeroizing;

use crate::args::VaultVerb;
use crate::exit::{Exit, Failure};
use crate::home::Home;
use crate::terminal;

/// Longest key, in bytes.
const MAX_KEY: u64 = 64 * 1024;

pub(crate) fn vault(verb: VaultVerb) -> Result<Exit, Failure> {
    let home = Home::find()?;
    let vault = Vault::new(home.state());
    match verb {
        VaultVerb::Set { name } => {
            llm::provider(&name).map_err(Failure::usage)?;
            let key = read_key(&name)?;
            workspace::create_private_dir(home.state())
                .map_err(|error| Failure::failed(format!("{}: {error}", home.state().display())))?;
            vault.set(&name, key).map_err(Failure::failed)?;
            terminal::errln(&format!("The key for {name} is kept."));
        }
        VaultVerb::List => {
            for name in vault.names().map_err(Failure::failed)? {
                terminal::outln(&name);
            }
        }
        VaultVerb::Rm { name } => {
            if !vault.remove(&name).map_err(Failure::failed)? {
                return Err(Failure::failed(format!("there is no key for {name}")));
            }
        }
    }
    Ok(Exit::DONE)
}

/// From standard input, or typed without echo. Never from the command line, which others can see.
fn read_key(name: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot read the key: {error}"));
    let mut key = Zeroizing::new(String::new());
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        stdin.take(MAX_KEY + 1).read_to_string(&mut key).map_err(failed)?;
        return Ok(key);
    }
    terminal::err(&format!("Key for {name} (not shown): "));
    let _silence = Silence::new().map_err(failed)?;
    stdin.read_line(&mut key).map_err(failed)?;
    terminal::errln("");
    Ok(key)
}

/// No echo on the terminal while this lives.
struct Silence(rustix::termios::Termios);

impl Silence {
    fn new() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
    }
}
