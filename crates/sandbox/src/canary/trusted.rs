//! Files in the workspace that the host runs or trusts later: hooks, editors' tasks, agents' instructions.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

use super::attempt::{Code, Tally, Verdict, call};
use super::files::open;
use super::ways::{self, Tried};
use super::{Brief, Canary};

const THEME: &str = "trusted files";
/// How long the race is run, and how often at most.
const RACE: (Duration, u32) = (Duration::from_secs(1), 20_000);

pub(crate) const ALL: &[Canary] = &[
    Canary {
        name: "git-hook",
        theme: THEME,
        tried: "plant a hook or change .git/config, or put up another .git",
        attempt: git_hook,
    },
    Canary {
        name: "trusted-create",
        theme: THEME,
        tried: "create .envrc, .vscode and the like where there was none, with every system call that can",
        attempt: create,
    },
    Canary {
        name: "trusted-rename",
        theme: THEME,
        tried: "give a harmless file or directory such a name: rename, exchange, link, symlink",
        attempt: rename,
    },
    Canary {
        name: "trusted-change",
        theme: THEME,
        tried: "change AGENTS.md that is there: open, truncate, alias, move away and back",
        attempt: change,
    },
    Canary {
        name: "protect-race",
        theme: THEME,
        tried: "swap the path under the eyes of whoever checks it, for a second or 20,000 times",
        attempt: race,
    },
];

fn tally_all(tally: &mut Tally, what: &str, tried: Vec<Tried>) {
    for (way, result) in tried {
        tally.must_fail(&format!("{what} ({way})"), result);
    }
}

fn git_hook(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for name in [".git/hooks/pre-commit", ".git/info/attributes"] {
        tally_all(&mut tally, &format!("created {name}"), ways::create(&brief.at(name)));
    }
    for name in [".git/config", ".git/hooks/pre-commit.sample"] {
        tally_all(
            &mut tally,
            &format!("changed {name}"),
            ways::change(&brief.at(name), &brief.at("git-alias")),
        );
    }
    // As git itself changes its configuration.
    let lock = brief.at(".git/config.lock");
    if open(&lock, OFlags::CREATE | OFlags::WRONLY).is_ok() {
        tally_all(&mut tally, "replaced .git/config", ways::rename(&lock, &brief.at(".git/config")));
        let _ = rustix::fs::unlink(&lock);
    }
    tally.must_fail(
        "moved .git/hooks away",
        rustix::fs::rename(brief.at(".git/hooks"), brief.at(".git/other-hooks")),
    );
    let away = brief.at("git-away");
    let moved = rustix::fs::rename(brief.at(".git"), &away);
    tally.must_fail("moved .git away", moved);
    if moved.is_ok() {
        tally_all(&mut tally, "put up a new .git", ways::make_directory(&brief.at(".git")));
    }
    let decoy = brief.at("git-decoy");
    if rustix::fs::mkdir(&decoy, Mode::RWXU).is_ok() {
        let swap = rustix::fs::renameat_with(CWD, &decoy, CWD, brief.at(".git"), RenameFlags::EXCHANGE);
        tally.must_fail("exchanged .git", swap);
    }
    tally.verdict()
}

fn create(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for name in ["create/.envrc", "create/deep/.mcp.json", "create/CLAUDE.md"] {
        tally_all(&mut tally, &format!("created {name}"), ways::create(&brief.at(name)));
    }
    for name in ["create/.vscode", "create/deep/.husky", ".idea"] {
        tally_all(&mut tally, &format!("made {name}"), ways::make_directory(&brief.at(name)));
    }
    // In a directory that is there.
    tally_all(&mut tally, "created .vscode/tasks.json", ways::create(&brief.at(".vscode/tasks.json")));
    // In a directory that it has made itself.
    if rustix::fs::mkdir(brief.at("create/new"), Mode::RWXU).is_ok() {
        tally_all(&mut tally, "created create/new/.envrc", ways::create(&brief.at("create/new/.envrc")));
    }
    // From there, by a bare name.
    if std::env::set_current_dir(brief.at("create/deep")).is_ok() {
        tally_all(&mut tally, "created .envrc by its bare name", ways::create(Path::new(".envrc")));
    }
    tally.verdict()
}

fn rename(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let prepared = brief.at("rename/prepared.json");
    for name in ["rename/.mcp.json", "rename/deep/.envrc"] {
        tally_all(&mut tally, &format!("a file became {name}"), ways::rename(&prepared, &brief.at(name)));
    }
    // A directory with innocent names in it.
    let innocent = brief.at("rename/innocent");
    for name in ["rename/.vscode", "rename/deep/.git", ".husky"] {
        tally_all(
            &mut tally,
            &format!("a directory became {name}"),
            ways::rename(&innocent, &brief.at(name)),
        );
    }
    for (target, name) in
        [("plain.txt", "rename/AGENTS.md"), ("rename/innocent", "rename/.cursor"), ("/tmp", ".devcontainer")]
    {
        let tried = ways::symlink(Path::new(target), &brief.at(name));
        tally_all(&mut tally, &format!("a link became {name}"), tried);
    }
    tally_all(
        &mut tally,
        "a file became AGENTS.md",
        ways::rename(&brief.at("plain.txt"), &brief.at("AGENTS.md")),
    );
    tally.verdict()
}

fn change(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let file = brief.at("AGENTS.md");
    tally_all(&mut tally, "changed AGENTS.md", ways::change(&file, &brief.at("agents-alias")));
    tally_all(
        &mut tally,
        "changed .vscode/settings.json",
        ways::change(&brief.at(".vscode/settings.json"), &brief.at("settings-alias")),
    );
    // Away, changed under another name, and back.
    let away = brief.at("agents-away");
    if rustix::fs::rename(&file, &away).is_ok() {
        let changed = open(&away, OFlags::WRONLY | OFlags::APPEND);
        let back = rustix::fs::rename(&away, &file);
        if changed.is_ok() && back.is_ok() {
            tally.escaped("moved AGENTS.md away, could change it, and moved it back");
        }
    }
    tally.verdict()
}

/// One thread flips the first letter of the name between `.` and `a`, the other opens it.
fn race(brief: &Brief) -> Verdict {
    let target = brief.at("race/.envrc");
    let harmless = brief.at("race/aenvrc");
    let name = ways::c(&target).into_bytes_with_nul();
    // Of "….envrc\0", the dot.
    let Some(dot) = name.len().checked_sub(".envrc\0".len()) else { return Verdict::error("no path") };
    let name: Vec<AtomicU8> = name.into_iter().map(AtomicU8::new).collect();
    let (name, done) = (name.as_slice(), &AtomicBool::new(false));
    let flip = move || {
        while !done.load(Ordering::Relaxed) {
            name[dot].store(b'a', Ordering::SeqCst);
            std::hint::spin_loop();
            name[dot].store(b'.', Ordering::SeqCst);
        }
    };
    let mut times = 0;
    let mut answers = Tally::default();
    std::thread::scope(|threads| {
        threads.spawn(flip);
        let started = Instant::now();
        let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as usize;
        let here = libc::AT_FDCWD as usize;
        while times < RACE.1 && started.elapsed() < RACE.0 {
            times += 1;
            // SAFETY: the name stays NUL-terminated whichever letter is in it, and outlives the threads; that
            // it changes during the call is the point, and the kernel copies it.
            let opened =
                unsafe { call(libc::SYS_openat, [here, name.as_ptr() as usize, flags, 0o600, 0, 0]) };
            match opened {
                // SAFETY: the descriptor was just opened here.
                Ok(fd) => unsafe {
                    libc::close(fd as libc::c_int);
                },
                Err(code) => answers.answer(code.name()),
            }
            if times % 64 == 0 {
                // So that it has to be created again.
                let _ = rustix::fs::unlink(&harmless);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    answers.answer(format!("{times} times"));
    answers.must_fail("the file came to be", rustix::fs::stat(&target));
    // The other side looks at the whole directory; and where nothing can be written there is no race.
    let _: Result<PathBuf, Code> = rustix::fs::unlink(&harmless).map(|()| harmless).map_err(Code::from);
    answers.verdict()
}
