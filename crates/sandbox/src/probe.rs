//! What this machine offers, for `varvel doctor`. The proof is a command that really runs; this explains it.

use std::fs;

/// One fact about the machine.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as the sandbox needs it.
    pub good: bool,
    /// What was found, and what to do when it is not good.
    pub detail: String,
}

/// Looks at the kernel's settings that the sandbox depends on.
#[must_use]
pub fn probe() -> Vec<Check> {
    let release = setting("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let abi = landlock_abi();
    let needed = crate::landlock::REQUIRED as i64;
    let mut checks = vec![
        Check { name: "kernel", good: true, detail: release },
        Check {
            name: "Landlock",
            good: abi >= needed,
            detail: if abi >= needed {
                format!("ABI {abi}")
            } else if abi > 0 {
                format!("ABI {abi}, but {needed} is needed: use Linux 5.19 or later")
            } else {
                "absent: use a kernel with CONFIG_SECURITY_LANDLOCK and lsm=...,landlock on its command line"
                    .into()
            },
        },
    ];
    for (name, path, bad, fix) in [
        (
            "user namespaces (Debian switch)",
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "user namespaces (AppArmor)",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for varvel",
        ),
        (
            "user namespaces (count)",
            "/proc/sys/user/max_user_namespaces",
            "0",
            "sudo sysctl user.max_user_namespaces=10000",
        ),
    ] {
        if let Some(value) = setting(path) {
            let good = value != bad;
            let detail = if good { format!("{path} = {value}") } else { format!("{path} = {value}: {fix}") };
            checks.push(Check { name, good, detail });
        }
    }
    checks
}

fn setting(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The Landlock ABI of the running kernel; 0 or less when there is none. See landlock_create_ruleset(2).
pub(crate) fn landlock_abi() -> i64 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with a null attribute and the version flag the kernel reads no memory.
    unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION)
    }
}
