//! The network inside: a loopback device, and the doors to the proxy.
//!
//! There is no device but `lo`. With the proxy, every address is made local to it ("AnyIP": a route of type `local`
//! for all addresses), so a program that connects anywhere at one of the known ports arrives at a listener that was
//! made in here and handed out, and the address that it meant is the listener's own address of that connection. There
//! is no relay and no packet ever leaves: the process outside accepts the connection itself.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};
use serde::{Deserialize, Serialize};

/// Where programs that know proxies find it.
pub const PROXY_PORT: u16 = 3128;
/// Where the certificates are that programs inside trust, when the session has a certificate authority of its own.
pub(crate) const CERTIFICATES: &str = "/run/varvel/certificates.pem";
/// Bundles of certificates, where distributions keep them.
pub(crate) const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What of the proxy is known inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doors {
    /// Ports at which direct connections arrive at the proxy.
    pub ports: Vec<u16>,
    /// The session's certificate authority (PEM), when encrypted connections are inspected.
    pub ca_pem: Option<String>,
}

/// Sockets that were made inside: whoever holds them meets the programs in there.
#[derive(Debug)]
pub struct Listeners {
    /// `127.0.0.1:3128`, for programs that know proxies.
    pub proxy: TcpListener,
    /// One for each port, at every address. The local address of what is accepted is the one that was meant.
    pub direct: Vec<TcpListener>,
    /// Port 53 at every address.
    pub dns: UdpSocket,
}

impl Listeners {
    pub(crate) fn fds(self) -> Vec<OwnedFd> {
        let mut all: Vec<OwnedFd> = vec![self.proxy.into(), self.dns.into()];
        all.extend(self.direct.into_iter().map(OwnedFd::from));
        all
    }

    pub(crate) fn from_fds(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let (proxy, dns) = (fds.next()?.into(), fds.next()?.into());
        Some(Self { proxy, dns, direct: fds.map(TcpListener::from).collect() })
    }
}

/// Variables that tell programs where the proxy and the certificates are.
pub(crate) fn environment(doors: &Doors) -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let mut all: Vec<(String, String)> = Vec::new();
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        all.push((name.into(), proxy.clone()));
    }
    for name in ["no_proxy", "NO_PROXY"] {
        all.push((name.into(), "localhost,127.0.0.1,::1".into()));
    }
    let bundle = match &doors.ca_pem {
        Some(_) => Some(CERTIFICATES),
        None => BUNDLES.into_iter().find(|path| std::path::Path::new(path).is_file()),
    };
    if let Some(bundle) = bundle {
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "NODE_EXTRA_CA_CERTS",
            "GIT_SSL_CAINFO",
            "CARGO_HTTP_CAINFO",
        ] {
            all.push((name.into(), bundle.into()));
        }
    }
    all
}

/// Programs inside may talk to each other over 127.0.0.1; the namespace has no other device.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data for which all-zero is valid; the name is NUL-terminated ("lo" and zeros);
    // the kernel reads the structure during the call only.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the doors. Needs the capabilities of the namespace's owner.
pub(crate) fn open_doors(doors: &Doors) -> io::Result<Listeners> {
    any_address(AddressFamily::INET)?;
    // Without IPv6 there is nothing to lead to the proxy.
    let six = any_address(AddressFamily::INET6).is_ok();
    let any: fn(u16) -> SocketAddr =
        if six { |port| ([0u16; 8], port).into() } else { |port| ([0u8; 4], port).into() };
    let proxy = TcpListener::bind(("127.0.0.1", PROXY_PORT))?;
    let dns = UdpSocket::bind(any(53))?;
    let direct = doors.ports.iter().map(|port| listen(any(*port))).collect::<io::Result<Vec<_>>>()?;
    for socket in &direct {
        socket.set_nonblocking(true)?;
    }
    proxy.set_nonblocking(true)?;
    dns.set_nonblocking(true)?;
    Ok(Listeners { proxy, direct, dns })
}

/// A listener for both families, where there are two.
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let family = if at.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, 1024)?;
    Ok(socket.into())
}

/// `ip route add local default dev lo`, by rtnetlink(7).
fn any_address(family: AddressFamily) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, /* NETLINK_ROUTE */
    )?;
    let index = rustix::net::netdevice::name_to_index(&socket, "lo")?;
    let mut message = Vec::with_capacity(64);
    // struct nlmsghdr: length (filled in below), type, flags, sequence, port.
    message.extend(0u32.to_ne_bytes());
    message.extend(libc::RTM_NEWROUTE.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    message.extend(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
    message.extend([0u8; 8]);
    // struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags.
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let (table, protocol, scope, kind) =
        (libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, libc::RTN_LOCAL);
    message.extend([family, 0, 0, 0, table, protocol, scope, kind]);
    message.extend(0u32.to_ne_bytes());
    // struct rtattr with the device.
    message.extend(8u16.to_ne_bytes());
    message.extend(libc::RTA_OIF.to_ne_bytes());
    message.extend(index.to_ne_bytes());
    let length = u32::try_from(message.len()).unwrap_or_default();
    message[..4].copy_from_slice(&length.to_ne_bytes());
    rustix::net::send(&socket, &message, rustix::net::SendFlags::empty())?;
    let mut answer = [0u8; 1024];
    let (got, _) = rustix::net::recv(&socket, &mut answer, rustix::net::RecvFlags::empty())?;
    // struct nlmsgerr after the header: 0, or a negative error number.
    let code = answer.get(16..20).filter(|_| got >= 20).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("rtnetlink did not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_where_the_proxy_is() {
        let all = environment(&Doors { ports: vec![80], ca_pem: Some("x".into()) });
        let get = |name: &str| all.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        assert_eq!(get("https_proxy"), Some("http://127.0.0.1:3128"));
        assert_eq!(get("SSL_CERT_FILE"), Some(CERTIFICATES));
    }
}
