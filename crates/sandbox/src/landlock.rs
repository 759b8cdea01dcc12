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

/// Restricts this thread and all its children: read everything that is mounted, write beneath `writable` only.
pub(crate) fn apply(writable: &[PathBuf]) -> Result<(), Failure> {
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
    let mut ruleset =
        ruleset.add_rule(rule(&"/".into(), AccessFs::from_read(WANTED))?).map_err(failed("Landlock"))?;
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
