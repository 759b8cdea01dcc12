use super::*;

fn own(name: &str, text: &str) -> Result<Profiles, SandboxError> {
    Profiles::new(BTreeMap::from([(name.to_owned(), text.to_owned())]))
}

#[test]
fn built_in_profiles_are_whole() {
    let profiles = Profiles::default();
    for name in profiles.names() {
        let profile = profiles.named(&name).unwrap();
        assert!(!profile.description.is_empty());
        assert_ne!(profile.network, NetworkAccess::Host, "{name}");
    }
    assert_eq!(profiles.named(policy::DOWNLOAD_PROFILE).unwrap().network, NetworkAccess::Host);
    assert_eq!(profiles.named(WORKER).unwrap().workspace, WorkspaceAccess::None);
    let error = profiles.named("none").unwrap_err().to_string();
    assert!(error.contains("workspace+net"), "{error}");
}

#[test]
fn a_profile_of_ones_own() {
    let profiles = own("small", "extends = 'strict'\nhome = ['...', '.gem']\n[limits]\nfile_mb = 5").unwrap();
    let profile = profiles.named("small").unwrap();
    assert_eq!((profile.limits.file_mb, profile.limits.processes), (5, 128));
    assert_eq!(profile.home, [".gem"]);
    assert_eq!(profile.syscalls, Syscalls::AllowList);
}

#[test]
fn profiles_that_take_the_sandbox_apart_are_refused() {
    for text in [
        "extends = 'workspace'\nhome = ['.ssh']",
        "extends = 'workspace'\nhome = ['../other']",
        "extends = 'workspace'\nhome = ['.aws/credentials']",
        "extends = 'workspace'\nsystem = ['/']",
        "extends = 'workspace'\nsystem = ['/usr/..']",
        "extends = 'mine'",
        "description = 'x'",
        "extends = 'landlock'\nnetwork = 'proxy'",
        "extends = 'workspace'\ntypo = 1",
    ] {
        assert!(own("mine", text).is_err(), "{text}");
    }
    assert!(own("workspace", "extends = 'read-only'").is_err(), "a built-in name");
    assert!(own("a/b", "extends = 'read-only'").is_err());
}

#[test]
fn commands_choose_their_profile() {
    let profiles = Profiles::default();
    let chosen = |line: &str| {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        profiles.for_command(&argv).map(|profile| profile.name)
    };
    assert_eq!(chosen("cargo build --release").as_deref(), Some("cargo"));
    assert_eq!(chosen("git push origin main").as_deref(), Some("git"));
    assert_eq!(chosen("v/bin/pip install x").as_deref(), Some("pip"));
    assert_eq!(chosen("git commit -m x"), None);
    assert_eq!(chosen("cargo"), None);
}
