//! Cutting one wire, to see that a canary notices. Only in builds with the feature `cut`, which are never installed.

/// Names of what can be cut.
#[cfg(feature = "cut")]
pub const NAMES: [&str; 15] = [
    "root",
    "pid-namespace",
    "network-namespace",
    "ipc-namespace",
    "landlock",
    "seccomp",
    "unix-filter",
    "environment",
    "close-range",
    "capabilities",
    "no-new-privs",
    "protect",
    "hide",
    "proxy-addresses",
    "scratch",
];

/// Whether the mechanism `name` is to be left out.
#[cfg(feature = "cut")]
pub(crate) fn is(name: &str) -> bool {
    std::env::var("VARVEL_CUT").is_ok_and(|cut| cut.split(',').any(|one| one == name))
}

/// Nothing is ever left out.
#[cfg(not(feature = "cut"))]
pub(crate) const fn is(_: &str) -> bool {
    false
}
