"""What a hostile program does to a machine, one way a time: hostile.py WAY SIGN. Every way ends by itself, and writes
little, so that a sandbox that does not hold does no harm."""
import os, signal, sys, time

MEGABYTE = 1 << 20


def bomb():
    """Processes that start processes, for three seconds."""
    end = time.time() + 3
    while time.time() < end:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def memory():
    """First one process with too much, then many with a little each."""
    taken = []
    try:
        while len(taken) < 64:
            taken.append(b"x" * (16 * MEGABYTE))
    except MemoryError:
        print("refused after", len(taken) * 16, "MB")
    taken.clear()
    for _ in range(8):
        if os.fork() == 0:
            taken = b"x" * (100 * MEGABYTE)
            time.sleep(20)
            os._exit(0)
    time.sleep(20)


def disk():
    """20 GB, if it may; but not more than 200 MB of it in truth."""
    for path in ("big", "/tmp/big", "/dev/shm/big", os.path.expanduser("~/big")):
        written = 0
        try:
            with open(path, "wb", buffering=0) as file:
                while written < 200 * MEGABYTE:
                    written += file.write(b"x" * MEGABYTE)
        except OSError as error:
            print("stopped", path, written // MEGABYTE, error.errno)
        else:
            print("FILLED", path)
    os.truncate("big", 0)
    try:
        os.truncate("big", 20 << 30)
        print("FILLED by truncate")
    except OSError as error:
        print("stopped truncate", error.errno)


def stubborn():
    """Does not end when asked to."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
    time.sleep(60)


def files():
    """Ten thousand files, made and removed."""
    os.mkdir("many")
    for number in range(10000):
        with open(f"many/{number}", "w"):
            pass
    for number in range(10000):
        os.remove(f"many/{number}")
    os.rmdir("many")


def zombies():
    """Orphans that nobody waits for, a few hundred of them."""
    for _ in range(300):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                time.sleep(0.001)
            os._exit(0)
        os.waitpid(child, 0)
    dead = 0
    for _ in range(50):
        time.sleep(0.1)
        states = [open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[0] for name in numbers()]
        dead = states.count("Z")
        if dead == 0:
            break
    print("zombies", dead)


def numbers():
    """Processes that are there, and still are when their file is opened."""
    return [name for name in os.listdir("/proc") if name.isdigit() and os.path.exists(f"/proc/{name}/stat")]


def deep():
    """Directories in directories, beyond the longest path. A sandbox may refuse what it cannot name any more."""
    depth = 0
    try:
        while depth < 400:
            os.mkdir("deeper-and-deeper")
            os.chdir("deeper-and-deeper")
            depth += 1
    except OSError as error:
        print("stopped by", error.errno)
    print("depth", depth)


def outside():
    """Files where there should be none."""
    sign = "varvel-hostile-" + sys.argv[2]
    for directory in ("..", "../..", "/tmp", "/var/tmp", "/dev/shm", "/run", "/etc", "/usr", os.path.expanduser("~")):
        try:
            with open(os.path.join(directory, sign), "w"):
                pass
        except OSError:
            pass


if __name__ == "__main__":
    globals()[sys.argv[1]]()
