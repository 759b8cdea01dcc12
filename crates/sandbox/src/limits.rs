//! Resource limits that need no privileges: rlimits for each process, and a look at the whole tree now and then.

use crate::plan::Plan;
use crate::profile::Isolation;

/// Whether the processes inside use more than they may, together. A floor that needs no privileges.
pub(crate) fn exceeded(plan: &Plan) -> Option<String> {
    // Without a pid namespace /proc shows everybody's processes.
    if plan.isolation == Isolation::Landlock || crate::cut::is("pid-namespace") {
        return None;
    }
    let (mut pages, mut processes) = (0u64, 0u64);
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Some("what can be watched over".to_owned());
    };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        processes += 1;
        // Fields 2 and 3 of statm: resident and shared pages.
        let statm = std::fs::read_to_string(entry.path().join("statm")).unwrap_or_default();
        let mut fields = statm.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
        pages += resident.saturating_sub(shared);
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if plan.limits.memory_mb > 0 && pages.saturating_mul(page) > plan.limits.memory_mb << 20 {
        return Some(format!("{} MB of memory", plan.limits.memory_mb));
    }
    (plan.limits.processes > 0 && processes > plan.limits.processes)
        .then(|| format!("{} processes", plan.limits.processes))
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
