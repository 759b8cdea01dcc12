//! Cutting wires, for tests: with the feature `cut`, walls can be left out one at a time, to see that a canary
//! notices. Without the feature there is no such thing.

/// The walls that can be left out.
pub const WIRES: &[&str] = &[
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
    "protect",
    "hide",
    "proxy-addresses",
];

/// The variable that names the walls to leave out, separated by commas.
pub(crate) const VARIABLE: &str = "VARVEL_CUT";

/// Whether the wall `name` is left out. Always false without the feature `cut`.
#[must_use]
#[cfg(not(feature = "cut"))]
pub const fn is(_name: &str) -> bool {
    false
}

/// Whether the wall `name` is left out.
#[must_use]
#[cfg(feature = "cut")]
pub fn is(name: &str) -> bool {
    debug_assert!(WIRES.contains(&name), "{name} is in no list");
    named().any(|cut| cut == name)
}

/// Whether any wall is left out: then nothing is proven.
#[must_use]
pub fn any() -> bool {
    cfg!(feature = "cut") && named().next().is_some()
}

/// A name in the variable that is no wall: a test that means another one would pass for nothing.
pub(crate) fn unknown() -> Option<String> {
    if cfg!(feature = "cut") { named().find(|cut| !WIRES.contains(&cut.as_str())) } else { None }
}

/// What the launcher has to be passed.
pub(crate) fn variable() -> Option<(&'static str, String)> {
    if cfg!(feature = "cut") { Some((VARIABLE, std::env::var(VARIABLE).ok()?)) } else { None }
}

fn named() -> impl Iterator<Item = String> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let names: Vec<_> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cut_unless_asked() {
        assert!(WIRES.iter().all(|wire| !is(wire)) && !any() && unknown().is_none());
        assert!(VARIABLE.starts_with("VARVEL_"));
    }
}
