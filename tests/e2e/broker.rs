//! Names that the host later runs or trusts, and every way that was found to bring them about. Each of these once
//! worked, or would without a rule of its own.

use crate::support::{Done, Place};

/// A workspace two levels below the private home, with a repository.
fn place() -> Place {
    Place::new()
        .with(".git/HEAD", "ref: refs/heads/main\n")
        .with(".git/config", "[core]\n\thooksPath = scripts/hooks\n")
        .with(".git/hooks/pre-commit.sample", "")
        .with(".git/refs/heads/.keep", "")
        .with(".git/objects/.keep", "")
        .with(".git/modules/sub/config", "[core]\n")
        .with(".github/workflows/ci.yml", "on: push\n")
        .with("scripts/hooks/pre-commit", "as it was")
        .with("AGENTS.md", "as it was")
        .with("docs/agents.md", "as it was")
        .with("backend/app/.env", "KEY=hidden")
        .with("src/main.c", "int main(void) { return 0; }\n")
}

/// Runs a script, which must end in `end`: the refusals do not stop it.
fn attempt(place: &Place, script: &str) -> Done {
    let done = place.sh(&format!("{{ {script}\n}} 2>/dev/null; echo end"));
    assert!(done.out.ends_with("end\n"), "{done:?}");
    done
}

/// Fails if any of these came to be.
fn absent(place: &Place, script: &str, paths: &[&str]) {
    let done = attempt(place, script);
    for path in paths {
        assert!(!place.has(path), "{path} came to be by: {script}\n{done:?}");
    }
    place.verify();
}

#[test]
fn what_contains_the_workspace_stays_where_it_is() {
    let place = place();
    let parent = place.work.path().parent().unwrap().display().to_string();
    let name = place.work.path().file_name().unwrap().to_string_lossy().into_owned();
    for moved in [format!("mv {parent} {parent}-moved"), format!("cd /; mv {parent}/{name} {parent}/other")] {
        absent(
            &place,
            &format!(
                "{moved}; for d in {parent}-moved/{name} {parent}/other; do echo x > $d/.envrc; mkdir $d/.idea; done"
            ),
            &[".envrc", ".idea"],
        );
    }
}

#[test]
fn links_give_nothing_another_name() {
    let place = place();
    let link = "import os\n\
        fd = os.open('AGENTS.md', os.O_RDONLY)\n\
        for source in (f'/proc/self/fd/{fd}', f'/dev/fd/{fd}', 'AGENTS.md'):\n\
        \x20   try:\n        os.link(source, 'free', follow_symlinks=True); open('free', 'w').write('evil')\n\
        \x20   except OSError as error: print(error.errno)\n";
    let done = place.call(["exec", "--", "python3", "-c", link]);
    assert_eq!(done.out, "13\n13\n13\n", "{done:?}");
    assert!(place.read("AGENTS.md") == "as it was" && !place.has("free"));
    absent(
        &place,
        "mkdir -p node_modules/e/.vscode .git/foo; ln -s node_modules/e proj; ln -s .git/foo pkg; mv .github gh; \
         mkdir evil; ln -s evil .gitea; mv .git/modules/sub evil2; ln -s ../../evil2 .git/modules/sub",
        &["proj", "pkg", "gh", ".gitea", "evil2"],
    );
}

#[test]
fn directories_bring_nothing_along() {
    let place = place();
    absent(
        &place,
        "mkdir -p .git/objects/x/.git/hooks; mv .git/objects/x one; mkdir -p .git/foo/.vscode; mv .git/foo two; \
         mkdir -p node_modules/p/.vscode; mv node_modules/p three; mkdir -p gh/workflows; mv gh .forgejo; \
         mv src node_modules/src; mkdir -p nm/x; mv nm node_modules/nm",
        &[".git/objects/x/.git", "one", "two", "three", ".forgejo", "node_modules/src", "node_modules/nm"],
    );
    assert!(place.has("src/main.c"));
}

#[test]
fn a_repository_in_disguise_is_not_made() {
    let place = place();
    attempt(
        &place,
        "mkdir -p bare/refs bare/objects; echo 'ref: x' > bare/HEAD; mkdir -p b2/refs; echo x > b2/HEAD; mkdir b2/objects",
    );
    assert!(!place.has("bare/HEAD") && !place.has("b2/objects"));
    let place =
        place.with("old/HEAD", "x").with("old/refs/x", "").with("old/objects/x", "").with("old/hooks/x", "");
    absent(
        &place,
        "echo evil > old/config; echo evil > old/hooks/pre-commit; echo evil > scripts/hooks/pre-push",
        &["old/config", "old/hooks/pre-commit", "scripts/hooks/pre-push"],
    );
    attempt(&place, "echo evil > scripts/hooks/pre-commit");
    assert_eq!(place.read("scripts/hooks/pre-commit"), "as it was");
}

#[test]
fn what_a_trusted_link_leads_to_is_trusted() {
    let place = place();
    std::os::unix::fs::symlink("docs/agents.md", place.work.path().join("CLAUDE.md")).unwrap();
    attempt(&place, "echo evil > docs/agents.md; echo evil > CLAUDE.md; mv docs other; rm docs/agents.md");
    assert_eq!(place.read("docs/agents.md"), "as it was");
}

#[test]
fn secrets_stay_hidden_in_the_next_command() {
    let place = place();
    attempt(&place, "mkdir target; mv backend target/backend; mv backend/app target/app");
    let done = place.sh("cat backend/app/.env target/*/.env target/*/*/.env");
    assert!(!done.out.contains("hidden"), "{done:?}");
    assert!(place.has("backend/app/.env"));
}

#[test]
fn two_commands_in_one_workspace_do_not_help_each_other() {
    // One swaps a file for a directory while the other gives it a trusted name.
    let place = place().with("evil/workflows/e.yml", "evil").with("cand", "file");
    let swap = "import ctypes, time\n\
        libc = ctypes.CDLL(None)\n\
        end = time.time() + 4\n\
        while time.time() < end: libc.renameat2(-100, b'cand', -100, b'evil', 2)\n";
    let give = "import os, time\n\
        end = time.time() + 3\n\
        while time.time() < end:\n\
        \x20   try: os.rename('cand', '.gitea')\n    except OSError: pass\n\
        \x20   try: os.rename('.gitea', 'cand')\n    except OSError: pass\n\
        print(os.path.exists('.gitea/workflows/e.yml'))\n";
    let mut other = place
        .varvel()
        .args(["exec", "--", "python3", "-c", swap])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let done = place.call(["exec", "--", "python3", "-c", give]);
    other.wait().unwrap();
    assert_eq!(done.out, "False\n", "{done:?}");
    assert!(!place.has(".gitea/workflows"));
}

#[test]
fn honest_programs_notice_nothing() {
    let place = place();
    let script = "import os, subprocess, fcntl, stat\n\
        for n in range(50):\n\
        \x20   fd = os.open('prog', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755)\n\
        \x20   os.write(fd, b'#!/bin/sh\\nexit 0\\n'); os.close(fd)\n\
        \x20   subprocess.run(['./prog'], check=True)\n\
        \x20   f = open('lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); f.close()\n\
        \x20   g = open('lock', 'w'); fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); g.close()\n\
        os.umask(0); os.mkdir('open', 0o777); os.umask(0o27); open('closed', 'w').close()\n\
        print(oct(stat.S_IMODE(os.stat('open').st_mode)), oct(stat.S_IMODE(os.stat('closed').st_mode)))\n\
        def errno(f):\n\
        \x20   try: f(); return 0\n    except OSError as error: return error.errno\n\
        print(errno(lambda: os.unlink('lock/')), errno(lambda: os.rename('lock/', 'g')), errno(lambda: os.mkdir('d/')),\n\
        \x20   errno(lambda: os.mkdir('no/d')), errno(lambda: os.mkdir('d')), errno(lambda: os.chmod('prog', 0o4755)))\n\
        os.mkfifo('pipe')\n\
        if os.fork() == 0:\n\
        \x20   open('pipe', 'w').write('through'); os._exit(0)\n\
        print(open('pipe').read())\n\
        open('/proc/self/fd/%d' % os.open('closed', os.O_RDONLY), 'w').write('again'); print(open('closed').read())\n";
    let done = place.call(["exec", "--", "python3", "-c", script]);
    assert_eq!(done.out, "0o777 0o640\n20 20 0 2 17 1\nthrough\nagain\n", "{done:?}");
    let done = place.sh("git -c user.name=x -c user.email=x@x commit -qm one --allow-empty; git checkout -qb config/hooks; git gc -q; git log --format=%s");
    assert_eq!(done.out, "one\n", "{done:?}");
}

#[test]
fn refusals_without_number_hang_nothing() {
    let place = place();
    let script = "import os\n\
        for n in range(150):\n\
        \x20   d = 'deep/%03d' % n + ('/' + 'x' * 200) * 15\n    os.makedirs(d)\n\
        \x20   try: open(d + '/.envrc', 'w')\n    except OSError: pass\n\
        print('end')\n";
    let done = place.call(["exec", "--", "python3", "-c", script]);
    assert!(done.out == "end\n" && done.err.contains("host-trusted-file"), "{:?}", done.out);
    // What is too deep to be looked into is hidden, and the next command runs.
    let done = place.sh("echo goes on");
    assert_eq!(done.out, "goes on\n", "{:?}", done.err.chars().take(300).collect::<String>());
}
