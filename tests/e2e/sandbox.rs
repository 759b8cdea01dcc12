//! Canaries: what a hostile command tries, and must not get. Through `varvel exec`, so through the whole path.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Place, finish};

#[test]
fn the_exit_status_passes_through() {
    let place = Place::new();
    for (script, code) in
        [("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        let done = place.sh(script);
        assert_eq!(done.code, code, "{script}: {done:?}");
    }
    let done = place.call(["exec", "--", "no-such-program"]);
    assert_eq!(done.code, 127, "{done:?}");
    assert!(done.err.contains("no-such-program"), "{}", done.err);
    let done = place.call(["exec", "--timeout", "1", "--", "sleep", "60"]);
    assert!(done.code == 124 && done.time < Duration::from_secs(10), "{done:?}");
    assert_eq!(place.sh("cat; echo out; echo err >&2").out, "out\n");
    place.verify();
}

#[test]
fn it_sees_the_workspace_and_little_else() {
    let place = Place::new().with("a.txt", "here");
    fs::write(place.home.path().join("private"), "PRIVATE").unwrap();
    fs::create_dir(place.home.path().join(".ssh")).unwrap();
    fs::write(place.home.path().join(".ssh/id"), "PRIVATE").unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("other"), "PRIVATE").unwrap();
    let home = place.home.path().display();
    let done = place.sh(&format!(
        "cat a.txt; cat {home}/private {home}/.ssh/id {}/other; ls -a {home}; ls -R {home}/state; cat /etc/shadow; ls /sys /run /var /home /boot /mnt /srv",
        outside.path().display()
    ));
    assert!(done.out.starts_with("here"), "{done:?}");
    assert!(!done.out.contains("PRIVATE") && !done.out.contains("entries.jsonl"), "{}", done.out);
}

#[test]
fn it_writes_to_the_workspace_and_nowhere_else_that_stays() {
    let place = Place::new()
        .with(".git/config", "[core]\n")
        .with(".git/hooks/pre-commit.sample", "")
        .with("sub/x", "")
        .with(".vscode/tasks.json", "{}");
    let home = place.home.path().display();
    let done = place.sh(&format!(
        "echo ok > made && mkdir -p sub/deep && echo ok > sub/deep/made
         for path in /proc/self/comm /usr/x /etc/x /x /dev/x /proc/sys/kernel/hostname {home}/state/x .git/config .git/hooks/pre-commit .vscode/tasks.json; do
           (echo bad > $path) 2>/dev/null && echo \"WROTE $path\"
         done
         (mv .git away && mkdir -p .git/hooks && echo bad > .git/hooks/pre-commit) 2>/dev/null && echo WROTE by moving
         (mv .vscode away && mkdir .vscode) 2>/dev/null && echo WROTE by moving
         rm -rf .git/hooks 2>/dev/null; mv .git/hooks .git/h2 2>/dev/null; ln -sf /tmp .git/config 2>/dev/null
         (echo bad > /tmp/varvel-e2e-canary) && (echo bad > {home}/canary); true"
    ));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.out.contains("WROTE"), "{}", done.out);
    assert_eq!(place.read("made"), "ok\n");
    assert_eq!(place.read("sub/deep/made"), "ok\n");
    assert_eq!(place.read(".git/config"), "[core]\n");
    assert!(!place.has(".git/hooks/pre-commit") && place.has(".git/hooks/pre-commit.sample"));
    assert!(!PathBuf::from("/tmp/varvel-e2e-canary").exists() && !place.home.path().join("canary").exists());
}

#[test]
fn the_read_only_profile_writes_nothing() {
    let place = Place::new().with("a", "1");
    let done =
        place.call(["exec", "--profile", "read-only", "--", "sh", "-c", "cat a; echo x > a; echo x > b"]);
    assert_eq!(done.out, "1", "{done:?}");
    assert!(place.read("a") == "1" && !place.has("b"));
}

#[test]
fn it_has_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let place = Place::new();
    let socket = UnixListener::bind(place.work.path().join("host.sock")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let script = format!(
        "import socket\n\
         def attempt(name, make):\n\
         \x20   try:\n        make(); print('REACHED', name)\n    except OSError as error: print(name, error.errno)\n\
         attempt('tcp', lambda: socket.create_connection(('127.0.0.1', {port}), 2))\n\
         attempt('unix', lambda: socket.socket(socket.AF_UNIX).connect('host.sock'))\n\
         attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect('\\0x'))\n\
         attempt('raw', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))\n\
         attempt('vsock', lambda: socket.socket(40, 1))\n\
         attempt('netlink', lambda: socket.socket(16, 3))\n\
         attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53)))\n"
    );
    let done = place.call(["exec", "--", "python3", "-c", &script]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.out.contains("REACHED") && done.out.lines().count() == 7, "{}", done.out);
    assert!(listener.accept().is_err() && socket.accept().is_err());
}

#[test]
fn programs_inside_can_talk_to_each_other() {
    let script = "import socket, threading\n\
        s = socket.create_server(('127.0.0.1', 0))\n\
        threading.Thread(target=lambda: s.accept()[0].sendall(b'hello')).start()\n\
        print(socket.create_connection(s.getsockname()).recv(5).decode())\n";
    let done = Place::new().call(["exec", "--", "python3", "-c", script]);
    assert_eq!(done.out, "hello\n", "{done:?}");
}

#[test]
fn it_sees_only_its_own_processes_and_gets_no_privileges() {
    let place = Place::new();
    let done = place.sh("grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status; id -u; ls -d /proc/[0-9]* | wc -l; cat /proc/self/cgroup");
    let lines: Vec<&str> = done.out.lines().collect();
    for line in &lines[..5] {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    assert!(lines.iter().any(|line| line.starts_with("NoNewPrivs") && line.ends_with('1')), "{}", done.out);
    assert!(lines.iter().any(|line| line.starts_with("Seccomp") && line.ends_with('2')), "{}", done.out);
    assert!(!lines.contains(&"0"), "not root inside: {}", done.out);
    let processes: u32 = lines.iter().find_map(|line| line.parse().ok().filter(|n| *n < 100)).unwrap();
    assert!(processes < 8, "{}", done.out);
}

#[test]
fn system_calls_that_break_out_of_sandboxes_are_gone() {
    // By number, so that no library stands in between: (name, number, arguments), on x86-64.
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let script = "import ctypes, os\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        calls = dict(mount=165, umount2=166, pivot_root=155, chroot=161, ptrace=101, bpf=321, perf_event_open=298,\n\
            userfaultfd=323, io_uring_setup=425, keyctl=250, add_key=248, request_key=249, kexec_load=246,\n\
            init_module=175, finit_module=313, setns=308, unshare=272, open_by_handle_at=304, name_to_handle_at=303,\n\
            process_vm_readv=310, process_vm_writev=311, pidfd_getfd=438, fsopen=430, open_tree=428, move_mount=429,\n\
            mount_setattr=442, personality=135, syslog=103, kcmp=312)\n\
        for name, number in calls.items():\n\
        \x20   ctypes.set_errno(0)\n\
        \x20   result = libc.syscall(number, 0, 0, 0, 0, 0)\n\
        \x20   if result != -1 or ctypes.get_errno() != 1: print('OPEN', name, result, ctypes.get_errno())\n\
        ctypes.set_errno(0)\n\
        result = libc.syscall(0x40000000 + 39)\n\
        if result != -1 or ctypes.get_errno() != 38: print('OPEN x32', result)\n\
        result = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)\n\
        if result == 0: os._exit(0)\n\
        if result != -1: print('OPEN clone(NEWUSER)')\n\
        print('end')\n";
    let done = Place::new().call(["exec", "--", "python3", "-c", script]);
    assert_eq!(done.out, "end\n", "{done:?}");
}

#[test]
fn files_of_secrets_are_hidden_from_commands() {
    let place =
        Place::new().with(".env", "HIDDEN").with("app/.env", "HIDDEN").with("keys/server.pem", "HIDDEN");
    let done = place.sh("cat .env app/.env keys/server.pem; cp .env copy; ls -a");
    assert!(!done.out.contains("HIDDEN"), "{}", done.out);
    assert!(!place.has("copy") || !place.read("copy").contains("HIDDEN"));
    assert_eq!(place.read(".env"), "HIDDEN");
}

#[test]
fn memory_and_processes_are_limited() {
    let place = Place::new();
    let done = place.call(["exec", "--", "python3", "-c", "b = bytearray(9 << 30)"]);
    assert_ne!(done.code, 0, "{done:?}");
    // Many processes that each stay below the limit of one.
    let hog = "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        b = bytearray(1500 << 20)\n        for i in range(0, len(b), 4096): b[i] = 1\n        time.sleep(30)\n        os._exit(0)\ntime.sleep(30)";
    let done = place.call(["exec", "--", "python3", "-c", hog]);
    assert_eq!(done.code, 137, "{done:?}");
    assert!(done.err.contains("MB of memory") && done.time < Duration::from_secs(25), "{done:?}");
    let bomb = "import os, time\nn = 0\ntry:\n    while n < 5000:\n        if os.fork() == 0: time.sleep(20); os._exit(0)\n        n += 1\nexcept OSError: pass\nprint('FORKED', n)";
    let done = place.call(["exec", "--", "python3", "-c", bomb]);
    assert!(!done.out.contains("FORKED 5000"), "{}", done.out);
}

#[test]
fn nothing_outlives_the_command() {
    let place = Place::new();
    let done = place.sh("(setsid sleep 717171 >/dev/null 2>&1 &) ; echo started");
    assert_eq!(done.out, "started\n");
    crate::support::eventually("it is gone", || !crate::support::alive("717171"));
}

#[test]
fn no_sandbox_no_command() {
    // Without namespaces, as in many containers: an error that says what to do, and nothing runs.
    let place = Place::new();
    let inner = place.varvel();
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" exec -- touch made",
    ]);
    command.arg(inner.get_program()).current_dir(place.work.path()).env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let done = finish(&mut command);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("nothing was run") && done.err.contains("user namespaces"), "{}", done.err);
    assert!(!place.has("made"));
}

#[test]
fn it_works_without_privileges() {
    if !rustix::process::getuid().is_root() {
        return; // Then every other test shows it.
    }
    // As nobody, from a copy of the program that nobody can reach.
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let place = Place::unproven().with("a.txt", "here");
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("varvel");
    fs::copy(env!("CARGO_BIN_EXE_varvel"), &program).unwrap();
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for path in [place.home.path().to_owned(), place.work.path().to_owned(), place.work.path().join("a.txt")]
    {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut command = place.program(&program);
    command.env("PATH", "/usr/bin:/bin").uid(65534).gid(65534);
    command.args([
        "exec",
        "--",
        "sh",
        "-c",
        "cat a.txt; echo new > b.txt; ls /root; cat /etc/shadow; id -u; exit 5",
    ]);
    let done = finish(&mut command);
    assert_eq!(done.code, 5, "{done:?}");
    assert_eq!(done.out, "here65534\n", "{done:?}");
    assert_eq!(place.read("b.txt"), "new\n");
}
