//! Hostile work: what takes a machine down or leaves a mess, in the sandbox. The machine is untouched afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scripted::{Server, Turn};
use serde_json::json;

use crate::support::{Done, Place, alive, eventually, wait};

/// Limits that are quickly reached. It is meant for the hostile script, so that an agent's commands have it as well.
const SMALL: &str = "extends = \"workspace\"\ncommand = [\"python3 hostile.py\"]\n\
    [limits]\nfile_mb = 50\nmemory_mb = 256\nprocesses = 64\nscratch_mb = 16\n";
/// Processes of the sandbox itself and of a shell in front.
const OWN_PROCESSES: usize = 6;

/// A workspace with the hostile script in it, and what the machine was like before.
struct Arena {
    place: Place,
    mounts: String,
}

impl Arena {
    fn new() -> Self {
        let place = Place::new().with("hostile.py", include_str!("hostile.py"));
        let profiles = place.home.path().join(".config/varvel/profiles");
        fs::create_dir_all(&profiles).unwrap();
        fs::write(profiles.join("small.toml"), SMALL).unwrap();
        Self { place, mounts: mounts() }
    }

    /// Occurs in the command line of everything that the script starts, and nowhere else.
    fn sign(&self) -> String {
        self.place.work.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
    }

    fn exec(&self, options: &[&str], words: &[&str]) -> Done {
        let mut all = vec!["exec", "--profile", "small"];
        all.extend(options);
        all.push("--");
        all.extend(words);
        self.place.call(all)
    }

    /// The script in one of its ways.
    fn attack(&self, way: &str, options: &[&str]) -> Done {
        self.exec(options, &["python3", "hostile.py", way, &self.sign()])
    }

    /// Fails if anything is left.
    fn untouched(&self) {
        let sign = self.sign();
        eventually("no process is left", || !alive(&sign));
        assert_eq!(mounts(), self.mounts, "mounts");
        let work = self.place.work.path();
        let around =
            [work.parent().unwrap(), Path::new("/tmp"), Path::new("/var/tmp"), Path::new("/dev/shm")];
        let more = ["/", "/run", "/etc", "/usr"].map(Path::new);
        for directory in around.into_iter().chain(more).chain([self.place.home.path()]) {
            let left = directory.join(format!("varvel-hostile-{sign}"));
            assert!(!left.exists(), "{}", left.display());
        }
        self.place.verify();
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

/// How many processes have this in their command line.
fn count(sign: &str) -> usize {
    let lines = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).split('\0').any(|argument| argument == sign)).count()
}

/// Bytes of the files beneath a directory that are really on disk.
fn on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        sum += metadata.blocks() * 512 + if metadata.is_dir() { on_disk(&entry.path()) } else { 0 };
    }
    sum
}

#[test]
fn a_fork_bomb() {
    let arena = Arena::new();
    let sign = arena.sign();
    let mut command = arena.place.varvel();
    command.args([
        "exec",
        "--profile",
        "small",
        "--timeout",
        "30",
        "--",
        "python3",
        "hostile.py",
        "bomb",
        &sign,
    ]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(count(&sign));
        std::thread::sleep(Duration::from_millis(50));
    }
    wait(&mut child, Duration::from_secs(1));
    assert!(most <= 64 + OWN_PROCESSES, "{most} processes");
    arena.untouched();
}

#[test]
fn a_fork_bomb_of_the_shell() {
    let arena = Arena::new();
    let line = format!("b() {{ b | b & }}; b; sleep 30 # {}", arena.sign());
    let done = arena.exec(&["--timeout", "3"], &["sh", "-c", &line]);
    assert!(done.code != 0 && done.time < Duration::from_secs(30), "{done:?}");
    eventually("no shell is left", || !alive(&line));
    arena.untouched();
}

#[test]
fn a_memory_hog() {
    let arena = Arena::new();
    let done = arena.attack("memory", &[]);
    assert!(done.out.is_empty() || done.out.contains("refused after"), "{done:?}");
    assert_eq!(done.code, 137, "{done:?}");
    assert!(done.err.contains("memory"), "{done:?}");
    arena.untouched();
}

#[test]
fn a_disk_filler() {
    let arena = Arena::new();
    let done = arena.attack("disk", &[]);
    assert!(!done.out.contains("FILLED"), "{done:?}");
    assert_eq!(done.out.matches("stopped").count(), 5, "{done:?}");
    assert!(on_disk(arena.place.work.path()) < 60 << 20, "{done:?}");
    arena.untouched();
}

#[test]
fn something_that_does_not_want_to_end() {
    let arena = Arena::new();
    let done = arena.attack("stubborn", &["--timeout", "1"]);
    assert!(done.code == 124 && done.time < Duration::from_secs(20), "{done:?}");
    arena.untouched();
}

#[test]
fn a_mess_in_the_workspace() {
    let arena = Arena::new();
    for way in ["files", "zombies", "deep", "outside"] {
        let done = arena.attack(way, &["--timeout", "60"]);
        assert_eq!(done.code, 0, "{way}: {done:?}");
        let sign = match way {
            "zombies" => "zombies 0",
            "deep" => "depth ",
            _ => "",
        };
        assert!(done.out.contains(sign), "{way}: {done:?}");
    }
    assert!(!arena.place.has("many") && arena.place.has("deeper-and-deeper"));
    // What is deeper than a path can say does not stop the next command.
    assert_eq!(arena.exec(&[], &["true"]).code, 0);
    arena.untouched();
}

#[test]
fn an_agent_goes_on_after_all_of_it() {
    let arena = Arena::new();
    let sign = arena.sign();
    let run =
        |command: String, timeout: u64| Turn::call("run", json!({ "command": command, "timeout": timeout }));
    let ways = ["bomb", "memory", "disk", "stubborn", "files", "zombies", "deep", "outside"];
    let mut turns: Vec<Turn> = ways
        .iter()
        .map(|way| run(format!("python3 hostile.py {way} {sign}"), if *way == "stubborn" { 1 } else { 60 }))
        .collect();
    turns.push(run("yes | head -c 200M".into(), 60));
    turns.push(run("echo still here".into(), 60));
    turns.push(Turn::text("done"));
    let server = Server::start(turns).unwrap();
    let done = arena.place.run(&server, &["hi"]);
    assert_eq!((done.code, done.out.as_str()), (0, "done\n"), "{done:?}");

    let requests = server.requests();
    assert_eq!(requests.len(), ways.len() + 3, "{done:?}");
    for pair in requests.windows(2) {
        let grown = pair[1].raw.len().saturating_sub(pair[0].raw.len());
        assert!(grown < 64 * 1024, "a result of {grown} bytes");
    }
    let all = &requests.last().unwrap().raw;
    for words in ["MB of memory", "ran longer than 1 s", "zombies 0", "bytes left out", "still here"] {
        assert!(all.contains(words), "{words}: {all}");
    }
    assert!(!all.contains("FILLED"), "{all}");
    let small = arena.place.records("intent").iter().filter(|r| r["action"]["profile"] == "small").count();
    assert_eq!(small, ways.len(), "the person's own profile is chosen");
    arena.untouched();
}

/// While staged changes are kept, somebody swaps the directory that they belong in for a link that leads elsewhere.
#[test]
fn a_race_with_links_against_staging() {
    let elsewhere = tempfile::tempdir().unwrap();
    let place = Place::new().with("sub/a.txt", "a");
    let (sub, spare): (PathBuf, PathBuf) = (place.work.path().join("sub"), place.work.path().join("spare"));
    let stop = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if fs::rename(&sub, &spare).is_ok() {
                    let _ = std::os::unix::fs::symlink(elsewhere.path(), &sub);
                    std::thread::sleep(Duration::from_micros(200));
                    let _ = fs::remove_file(&sub);
                    let _ = fs::rename(&spare, &sub);
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        // Nothing here may panic before the thread is told to stop.
        let round = |round: u32| {
            let script = format!(
                "mkdir -p sub && for n in $(seq 200); do echo {round} > sub/$n; done; \
                 ln -s {} sub/link{round}; echo x > sub/link{round}/through; true",
                elsewhere.path().display()
            );
            place.call(["exec", "--stage", "--commit", "--", "sh", "-c", &script])
        };
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..5).map(round).collect()));
        stop.store(true, Ordering::Relaxed);
        rounds
    });
    // A round may fail, because what it started from has changed; it must not end in a crash, or elsewhere.
    let rounds: Vec<Done> = rounds.unwrap();
    for done in rounds {
        assert!(done.code < 126 && !done.err.contains("unexpected argument"), "{done:?}");
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "written elsewhere");
    place.verify();
}
