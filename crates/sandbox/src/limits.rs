//! Resource limits that need no privileges: rlimits for each process, and a look at the whole tree now and then.

use std::path::{Path, PathBuf};

use crate::plan::Plan;
use crate::profile::Isolation;

/// Whether the processes inside use more than they may, together. A floor that needs no privileges.
pub(crate) fn exceeded(plan: &Plan) -> Option<String> {
    // Without a pid namespace /proc shows everybody's processes.
    if plan.isolation == Isolation::Landlock || crate::cut::is("pid-namespace") {
        return None;
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Some("what can be watched over".to_owned());
    };
    let numeric = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes: Vec<_> =
        entries.flatten().filter(|entry| numeric(&entry.file_name())).map(|entry| entry.path()).collect();
    let count = processes.len() as u64;
    if plan.limits.processes > 0 && count > plan.limits.processes {
        return Some(format!("{} processes", plan.limits.processes));
    }
    let limit = plan.limits.memory_mb << 20;
    if limit == 0 {
        return None;
    }
    // First a quick upper bound: what is resident, shared or not. Only beyond it the exact sum, which is slow.
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let resident = |process: &PathBuf| {
        let statm = std::fs::read_to_string(process.join("statm")).unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0)
    };
    if processes.iter().map(resident).sum::<u64>().saturating_mul(page) <= limit {
        return None;
    }
    (processes.iter().map(|process| own_memory(process)).sum::<u64>() > limit)
        .then(|| format!("{} MB of memory", plan.limits.memory_mb))
}

/// Memory of a process that is not a file's, in bytes; what several share is divided among them. See proc(5),
/// `smaps_rollup`.
fn own_memory(process: &Path) -> u64 {
    let text = std::fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let kilobytes = |line: &str| {
        let value = line.strip_prefix("Pss_Anon:").or_else(|| line.strip_prefix("Pss_Shmem:"))?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    text.lines().filter_map(kilobytes).sum::<u64>() << 10
}

/// Sets what the kernel limits for each process.
pub(crate) fn limit_resources(plan: &Plan) -> nix::Result<()> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    let mebibytes = |count: u64| count << 20;
    let namespaces = plan.isolation == Isolation::Namespaces;
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_DATA, (plan.limits.memory_mb > 0).then(|| mebibytes(plan.limits.memory_mb))),
        (Resource::RLIMIT_FSIZE, (plan.limits.file_mb > 0).then(|| mebibytes(plan.limits.file_mb))),
        (Resource::RLIMIT_NOFILE, (plan.limits.open_files > 0).then_some(plan.limits.open_files)),
        // Without a user namespace this would count all processes of the user.
        (Resource::RLIMIT_NPROC, (namespaces && plan.limits.processes > 0).then_some(plan.limits.processes)),
    ] {
        if let Some(limit) = limit {
            let (_, hard) = getrlimit(resource)?;
            let limit = if hard == RLIM_INFINITY { limit } else { limit.min(hard) };
            setrlimit(resource, limit, limit)?;
        }
    }
    Ok(())
}
