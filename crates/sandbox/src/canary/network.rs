//! The network: the machine's loopback, name servers, the metadata address, sockets of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, ipproto};

use super::attempt::{Code, Tally, Verdict, call};
use super::{Brief, Canary, proxy};

const THEME: &str = "network";
/// How long an answer is waited for.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 400_000_000 };
/// The address at which cloud providers hand out credentials.
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

pub(crate) const ALL: &[Canary] = &[
    Canary {
        name: "tcp",
        theme: THEME,
        tried: "connect to a listener on the machine's loopback: IPv4, IPv6, MPTCP, fast open",
        attempt: tcp,
    },
    Canary {
        name: "udp",
        theme: THEME,
        tried: "send a datagram to a socket on the machine's loopback",
        attempt: udp,
    },
    Canary {
        name: "dns",
        theme: THEME,
        tried: "ask a name server of the machine (data can leave in questions)",
        attempt: dns,
    },
    Canary {
        name: "metadata-address",
        theme: THEME,
        tried: "connect to 169.254.169.254, where clouds hand out credentials",
        attempt: metadata,
    },
    Canary {
        name: "proxy-loopback",
        theme: THEME,
        tried: "have the proxy connect to this machine: CONNECT, plain, SOCKS5, odd spellings",
        attempt: proxy::loopback,
    },
    Canary {
        name: "unix-path",
        theme: THEME,
        tried: "connect to a socket of the machine in the workspace",
        attempt: unix_path,
    },
    Canary {
        name: "unix-abstract",
        theme: THEME,
        tried: "connect to an abstract socket of the machine",
        attempt: unix_abstract,
    },
    Canary { name: "vsock", theme: THEME, tried: "talk to a hypervisor (AF_VSOCK)", attempt: vsock },
    Canary { name: "netlink", theme: THEME, tried: "configure the network (AF_NETLINK)", attempt: netlink },
    Canary { name: "packet", theme: THEME, tried: "raw packets (AF_PACKET, raw IP)", attempt: packet },
    Canary {
        name: "rare-sockets",
        theme: THEME,
        tried: "families with a history of bugs (AF_ALG, AF_KEY, AF_TIPC, AF_RDS, AF_XDP, AF_SMC, ...)",
        attempt: rare,
    },
];

/// Waits until `socket` can be read or written.
fn ready(socket: &OwnedFd, flags: PollFlags) -> bool {
    matches!(poll(&mut [PollFd::new(socket, flags)], Some(&PATIENCE)), Ok(1..))
}

fn socket(address: &SocketAddr, kind: SocketType) -> Result<OwnedFd, Code> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// A TCP connection, if one comes to be.
pub(crate) fn connect(address: SocketAddr) -> Result<OwnedFd, Code> {
    let socket = socket(&address, SocketType::STREAM)?;
    finish(rustix::net::connect(&socket, &address), socket)
}

fn finish(begun: rustix::io::Result<()>, socket: OwnedFd) -> Result<OwnedFd, Code> {
    match begun {
        Ok(()) => Ok(socket),
        Err(rustix::io::Errno::INPROGRESS) => {
            if !ready(&socket, PollFlags::OUT) {
                return Err(Code(libc::ETIMEDOUT));
            }
            rustix::net::sockopt::socket_error(&socket)??;
            Ok(socket)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Sends `question` and returns what comes back, within a bounded time.
pub(crate) fn ask(socket: &OwnedFd, question: &[u8]) -> Result<Vec<u8>, Code> {
    rustix::net::send(socket, question, SendFlags::NOSIGNAL)?;
    let mut answer = vec![0u8; 4096];
    if !ready(socket, PollFlags::IN) {
        return Err(Code(libc::ETIMEDOUT));
    }
    let (length, _) = rustix::net::recv(socket, &mut answer, RecvFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// Why this network namespace is no private one, if so. Nothing is sent.
fn way_out() -> Option<String> {
    let devices = std::fs::read_to_string("/proc/net/dev").ok()?;
    for name in devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())) {
        if name != "lo" && up(name) {
            return Some(format!("the device {name} is up"));
        }
    }
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let mut devices = routes.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    devices
        .find(|device| *device != "lo" && *device != "*")
        .map(|device| format!("there is a route by {device}"))
}

/// Whether a network device is up. (Some kernels put idle tunnel devices into every namespace.) In doubt it is.
fn up(name: &str) -> bool {
    use std::os::fd::AsRawFd;
    let Ok(socket) = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None) else { return true };
    // SAFETY: `ifreq` is plain data for which all-zero is valid; the name is shorter than its field, so it stays
    // NUL-terminated; the kernel writes the structure during the call only, and then the flags are set.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        if name.len() >= request.ifr_name.len() {
            return true;
        }
        for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *place = byte as libc::c_char;
        }
        let result = libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request);
        result != 0 || i32::from(request.ifr_ifru.ifru_flags) & libc::IFF_UP != 0
    }
}

fn tcp(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::new(127, 1, 2, 3)),
        IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let address = SocketAddr::new(address, brief.tcp);
        tally.must_fail(&format!("connected to {address}"), connect(address));
    }
    let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), brief.tcp);
    // Multipath TCP, and data in the first packet.
    let multipath = || -> Result<OwnedFd, Code> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = rustix::net::Protocol::from_raw(MPTCP);
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(protocol))?;
        finish(rustix::net::connect(&socket, &local), socket)
    };
    tally.must_fail("connected by MPTCP", multipath());
    let fast = || -> Result<OwnedFd, Code> {
        let socket = socket(&local, SocketType::STREAM)?;
        let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
        let sent = rustix::net::sendto(&socket, b"canary", flags, &local).map(drop);
        finish(sent, socket)
    };
    tally.must_fail("connected by fast open", fast());
    tally.verdict()
}

/// IPPROTO_MPTCP.
const MPTCP: rustix::net::RawProtocol = match rustix::net::RawProtocol::new(262) {
    Some(number) => number,
    None => ipproto::TCP.as_raw(),
};

fn udp(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::UNSPECIFIED)] {
        let address = SocketAddr::new(address, brief.udp);
        let sent = || -> Result<(), Code> {
            let socket = socket(&address, SocketType::DGRAM)?;
            rustix::net::connect(&socket, &address)?;
            rustix::net::send(&socket, b"canary", SendFlags::NOSIGNAL)?;
            // Sent into the void is refused a moment later; sent to a socket it is silence.
            match ask(&socket, b"canary") {
                Err(Code(libc::ETIMEDOUT)) => Ok(()),
                other => other.map(drop),
            }
        };
        tally.must_fail(&format!("a datagram to {address} was taken"), sent());
    }
    tally.verdict()
}

/// A question for the address of `canary.test`; RFC 1035, section 4.
const QUESTION: &[u8] =
    b"\xca\x7a\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06canary\x04test\x00\x00\x01\x00\x01";

fn dns(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let proxied = proxy::is_here();
    let resolver = Ipv4Addr::new(127, 0, 0, 53);
    for (address, port) in [(Ipv4Addr::LOCALHOST, brief.udp), (resolver, 53), (Ipv4Addr::LOCALHOST, 53)] {
        let address = SocketAddr::new(address.into(), port);
        let asked = || -> Result<Vec<u8>, Code> {
            let socket = socket(&address, SocketType::DGRAM)?;
            rustix::net::connect(&socket, &address)?;
            ask(&socket, QUESTION)
        };
        match asked() {
            Ok(answer) if proxied && port == 53 && made_up(&answer) => tally.answer("a made-up address"),
            Ok(_) => tally.escaped(format!("{address} answered")),
            // The listener outside never answers; it tells whether the question arrived.
            Err(code) => tally.answer(code.name()),
        }
    }
    tally.verdict()
}

/// Whether the answer has no address, or one that Varvel makes up (198.18.0.0/15, RFC 2544).
fn made_up(answer: &[u8]) -> bool {
    let count = answer.get(6..8).map_or(0, |count| u16::from_be_bytes([count[0], count[1]]));
    count == 0 || matches!(answer, [.., 198, 18 | 19, _, _])
}

fn metadata(_: &Brief) -> Verdict {
    if let Some(why) = way_out() {
        return Verdict::escaped(format!("the namespace has a way out: {why}; nothing was sent"));
    }
    let mut tally = Tally::default();
    match connect(METADATA) {
        Err(code) => tally.answer(code.name()),
        // The proxy takes every connection to this port, to decide on it.
        Ok(socket) => {
            match ask(&socket, b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n") {
                Ok(answer) if proxy::succeeded(&answer) => tally.escaped("it answered"),
                Ok(_) => tally.answer("refused by the proxy"),
                Err(code) => tally.answer(code.name()),
            }
        }
    }
    tally.verdict()
}

fn unix(address: &SocketAddrUnix, kind: SocketType) -> Result<OwnedFd, Code> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, address)?;
    Ok(socket)
}

fn unix_path(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    // By a short name: addresses of unix sockets hold 108 bytes.
    if let Err(error) = std::env::set_current_dir(&brief.workspace) {
        return Verdict::error(format!("the workspace: {error}"));
    }
    match SocketAddrUnix::new("host.sock") {
        Ok(address) => {
            tally.must_fail("connected", unix(&address, SocketType::STREAM));
            tally.must_fail("connected for packets", unix(&address, SocketType::SEQPACKET));
            tally.must_fail("connected for datagrams", unix(&address, SocketType::DGRAM));
        }
        Err(errno) => tally.error(Code::from(errno).name()),
    }
    // What is there at the start is hidden; what the machine makes later is only out of reach without the family.
    let made = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None);
    tally.must_fail("made a unix socket", made);
    tally.verdict()
}

fn unix_abstract(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    match SocketAddrUnix::new_abstract_name(brief.abstract_name().as_bytes()) {
        Ok(address) => tally.must_fail("connected", unix(&address, SocketType::STREAM)),
        Err(errno) => tally.error(Code::from(errno).name()),
    }
    tally.verdict()
}

/// Tries socket families, also with bits above the 32 that the kernel looks at.
fn families(all: &[(&str, i32, i32, i32)]) -> Verdict {
    let mut tally = Tally::default();
    for (name, family, kind, protocol) in all {
        for high in [0usize, 1 << 32] {
            let number = high | (*family as usize);
            // SAFETY: three numbers.
            let opened =
                unsafe { call(libc::SYS_socket, [number, *kind as usize, *protocol as usize, 0, 0, 0]) };
            match opened {
                // The kernel was built without it: it was asked, but there is nothing there.
                Err(code @ Code(libc::EAFNOSUPPORT)) => tally.answer(code.name()),
                other => tally.must_be_barred(name, other),
            }
        }
    }
    tally.verdict()
}

fn vsock(_: &Brief) -> Verdict {
    families(&[("AF_VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM, 0)])
}

fn netlink(_: &Brief) -> Verdict {
    let raw = libc::SOCK_RAW;
    families(&[
        ("route netlink", libc::AF_NETLINK, raw, libc::NETLINK_ROUTE),
        ("netfilter netlink", libc::AF_NETLINK, raw, libc::NETLINK_NETFILTER),
        ("generic netlink", libc::AF_NETLINK, raw, libc::NETLINK_GENERIC),
        ("audit netlink", libc::AF_NETLINK, raw, libc::NETLINK_AUDIT),
    ])
}

fn packet(_: &Brief) -> Verdict {
    families(&[
        ("AF_PACKET", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("raw IPv4", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW),
    ])
}

fn rare(_: &Brief) -> Verdict {
    const DGRAM: i32 = libc::SOCK_DGRAM;
    families(&[
        ("AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("AF_KEY", libc::AF_KEY, libc::SOCK_RAW, 2),
        ("AF_TIPC", libc::AF_TIPC, DGRAM, 0),
        ("AF_RDS", libc::AF_RDS, libc::SOCK_SEQPACKET, 0),
        ("AF_XDP", libc::AF_XDP, libc::SOCK_RAW, 0),
        ("AF_SMC", 43, libc::SOCK_STREAM, 0),
        ("AF_CAN", libc::AF_CAN, libc::SOCK_RAW, 1),
        ("AF_BLUETOOTH", libc::AF_BLUETOOTH, libc::SOCK_RAW, 1),
        ("AF_QIPCRTR", 42, DGRAM, 0),
        ("AF_PPPOX", libc::AF_PPPOX, DGRAM, 0),
        ("AF_NFC", libc::AF_NFC, libc::SOCK_SEQPACKET, 0),
        ("AF_KCM", 41, DGRAM, 0),
        ("AF_AX25", libc::AF_AX25, DGRAM, 0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_addresses_are_known() {
        assert!(made_up(b"\xca\x7a\x81\x83\0\x01\0\0\0\0\0\0"));
        assert!(made_up(b"\xca\x7a\x81\x80\0\x01\0\x01\0\0\0\0....\xc6\x12\0\x07"));
        assert!(!made_up(b"\xca\x7a\x81\x80\0\x01\0\x01\0\0\0\0....\x0a\0\0\x07"));
        assert!(made_up(b""));
    }
}
