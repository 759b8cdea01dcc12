"""A client that says what it got, one way a time: client.py WAY ARGUMENTS. Exit status 1 when it got nothing."""
import os, socket, ssl, struct, subprocess, sys, urllib.error, urllib.request

PROXY = ("127.0.0.1", 3128)
PATIENCE = 20


def everything(connection):
    """What comes until the other side ends."""
    data = b""
    while part := connection.recv(65536):
        data += part
    return data.decode(errors="replace")


def head(connection):
    """The head of an answer, byte by byte so that nothing of what follows is read."""
    data = b""
    while not data.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
        data += byte
    return data.decode()


def place(host, port):
    """HOST:PORT as it stands in addresses."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ask(connection, host, port, path):
    """One request; fails when there is no good answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: {place(host, port)}\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    answer = everything(connection)
    print(answer)
    return answer.startswith("HTTP/1.1 200")


def url(method, where):
    """As programs do that know of proxies, for every host."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    data = b"x" if method == "POST" else None
    try:
        with urllib.request.urlopen(urllib.request.Request(where, data, method=method), timeout=PATIENCE) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.status, error.headers.get("x-varvel-rule"), error.read().decode())
        return False
    return True


def tunnel(host, port, path="/"):
    """HTTP CONNECT."""
    connection = socket.create_connection(PROXY, PATIENCE)
    at = place(host, port)
    connection.sendall(f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n".encode())
    answer = head(connection)
    print(answer)
    if not answer.startswith("HTTP/1.1 200"):
        print(everything(connection))
        return False
    return ask(connection, host, port, path)


def socks(host, port, path="/"):
    """SOCKS5, with the name left to the proxy."""
    connection = socket.create_connection(PROXY, PATIENCE)
    connection.sendall(b"\x05\x01\x00")
    connection.recv(2)
    name = host.encode()
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", int(port)))
    code = connection.recv(10)[1]
    print("socks", code)
    return code == 0 and ask(connection, host, port, path)


def direct(host, port, path="/"):
    """As programs do that do not know of proxies."""
    return ask(socket.create_connection((host, int(port)), PATIENCE), host, port, path)


def tls(host, port, name=None):
    """The same with TLS, whoever the server is."""
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection((host, int(port)), PATIENCE), server_hostname=name or host):
        print("encrypted")
    return True


def udp(host, port):
    """A datagram, and whether anything comes back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_DGRAM)
    connection.settimeout(1)
    connection.connect((host, int(port)))
    connection.send(b"out")
    print("came back", connection.recv(100))
    return True


def resolve(name):
    """The addresses of a name."""
    print(sorted({found[4][0] for found in socket.getaddrinfo(name, 80)}))
    return True


def many(count, *words):
    """The same so many times at once."""
    all = [subprocess.Popen([sys.executable, __file__, *words]) for _ in range(int(count))]
    return not any([one.wait() for one in all])


if __name__ == "__main__":
    try:
        good = globals()[sys.argv[1]](*sys.argv[2:])
    except OSError as error:
        print(type(error).__name__, error)
        good = False
    sys.exit(0 if good else 1)
