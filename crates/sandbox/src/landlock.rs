//! Landlock: a second wall behind the mount namespace. Whatever is mounted, only these paths can be written.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::launcher::Failure;

/// Required: file access with renames between directories (Linux 5.19).
pub(crate) const REQUIRED: ABI = ABI::V2;
/// Used as far as the kernel has it: truncation, device ioctls, scopes for signals and abstract sockets. Their
/// absence opens nothing: mounts are read-only and pid and network namespaces are private.
const WANTED: ABI = ABI::V6;

/// The ABI that has scopes: without namespaces, signals and abstract sockets are held by nothing else.
const SCOPES: i64 = 6;

/// Fails where Landlock alone could not hold a command.
pub(crate) fn require_scopes() -> Result<(), Failure> {
    let abi = crate::probe::landlock_abi();
    if abi < SCOPES {
        let why =
            format!("the profile `landlock` needs ABI {SCOPES} (Linux 6.12), and this kernel has {abi}");
        return Err(Failure { what: "Landlock".into(), why });
    }
    Ok(())
}

/// Restricts this thread and all its children: read beneath `readable` only, write beneath `writable` only.
///
/// Called twice: for pid 1 inside, and more narrowly for the command, which then cannot write in the workspace but by
/// way of the broker.
pub(crate) fn apply(readable: &[PathBuf], writable: &[PathBuf]) -> Result<(), Failure> {
    if crate::cut::is("landlock") {
        return Ok(());
    }
    let failed = Failure::at::<landlock::RulesetError>;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))
        .map_err(failed("Landlock"))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))
        .map_err(failed("Landlock"))?
        .scope(Scope::from_all(WANTED))
        .map_err(failed("Landlock"))?
        .create()
        .map_err(failed("Landlock"))?;
    let open =
        |path: &PathBuf| PathFd::new(path).map_err(Failure::at(format!("Landlock: {}", path.display())));
    let rule = |path: &PathBuf, access: BitFlags<AccessFs>| -> Result<_, Failure> {
        Ok(PathBeneath::new(open(path)?, access).set_compatibility(CompatLevel::BestEffort))
    };
    let mut ruleset = ruleset;
    for path in readable {
        let access = AccessFs::from_read(WANTED);
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
        ruleset = ruleset.add_rule(rule(path, access)?).map_err(failed("Landlock"))?;
    }
    for path in writable {
        let access = if path.is_dir() { AccessFs::from_all(WANTED) } else { AccessFs::from_file(WANTED) };
        ruleset = ruleset.add_rule(rule(path, access)?).map_err(failed("Landlock"))?;
    }
    let status = ruleset.restrict_self().map_err(failed("Landlock"))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(Failure { what: "Landlock".into(), why: "the kernel does not enforce it".into() });
    }
    Ok(())
}
