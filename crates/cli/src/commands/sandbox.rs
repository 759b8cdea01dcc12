//! `varvel sandbox`: what a profile lets a command see and do.

use sandbox::{Isolation, NetworkAccess, Profile, Syscalls, WorkspaceAccess};
use serde_json::json;

use crate::args::SandboxVerb;
use crate::confinement::profiles;
use crate::exit::{Exit, Failure};
use crate::home::Home;
use crate::terminal::{self, BOLD, DIM, styled};

pub(crate) fn sandbox(verb: SandboxVerb) -> Result<Exit, Failure> {
    let profiles = profiles(&Home::find()?)?;
    match verb {
        SandboxVerb::List => {
            for name in profiles.names() {
                let profile = profiles.named(&name).map_err(Failure::usage)?;
                terminal::outln(&format!(
                    "{} {}",
                    styled(BOLD, format!("{name:<14}")),
                    terminal::safe(&profile.description)
                ));
            }
        }
        SandboxVerb::Show { name, json: true } => {
            let profile = profiles.named(&name).map_err(Failure::usage)?;
            terminal::outln(&json!({ "name": profile.name, "profile": profile }).to_string());
        }
        SandboxVerb::Show { name, json: false } => {
            show(&profiles.named(&name).map_err(Failure::usage)?);
        }
    }
    Ok(Exit::DONE)
}

fn show(profile: &Profile) {
    let row = |name: &str, text: &str| {
        terminal::outln(&format!("{} {}", styled(DIM, format!("{name:<13}")), terminal::safe(text)));
    };
    let list = |items: &[String]| if items.is_empty() { "nothing".to_owned() } else { items.join("  ") };
    terminal::outln(&format!("{}  {}", styled(BOLD, &profile.name), terminal::safe(&profile.description)));
    if !profile.command.is_empty() {
        row("chosen for", &profile.command.join(", "));
    }
    row(
        "workspace",
        match profile.workspace {
            WorkspaceAccess::ReadWrite => {
                "read and write; names that the host runs or trusts later, read-only; files of secrets hidden"
            }
            WorkspaceAccess::ReadOnly => "read-only; files of secrets hidden",
            WorkspaceAccess::None => "absent",
        },
    );
    row(
        "network",
        match profile.network {
            NetworkAccess::None => "none",
            NetworkAccess::Proxy => "the proxy, by the rules of `varvel network list`",
            NetworkAccess::Host => "the machine's",
        },
    );
    row(
        "isolation",
        match profile.isolation {
            Isolation::Namespaces => "namespaces and a root of its own, Landlock, seccomp",
            Isolation::Landlock => "Landlock and seccomp only",
        },
    );
    row(
        "system calls",
        match profile.syscalls {
            Syscalls::DenyList => "all but the dangerous",
            Syscalls::AllowList => "only those on the list",
        },
    );
    if profile.repositories {
        row("repositories", "may be made");
    }
    row("system", &format!("read-only: {}", list(&profile.system)));
    row("home", &format!("read-only: {}; the rest is absent", list(&profile.home)));
    row("cache", &format!("kept for each workspace: {}", list(&profile.cache)));
    row("sockets", &list(&profile.sockets));
    row("environment", &list(&profile.environment));
    let limits = profile.limits;
    row(
        "limits",
        &format!(
            "memory {} MB, processes {}, open files {}, file {} MB, scratch {} MB, cpu {} % (0: none)",
            limits.memory_mb,
            limits.processes,
            limits.open_files,
            limits.file_mb,
            limits.scratch_mb,
            limits.cpu_percent
        ),
    );
}
