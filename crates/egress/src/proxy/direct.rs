//! Connections of programs that do not know that there is a proxy: the address that they meant says where to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use action::{Connect, Decision, Destination, Verdict, Via};
use policy::network::normal_host;
use tokio::net::TcpStream;

use super::Proxy;
use super::dns::Names;
use super::hello::HelloError;
use super::http::Origin;
use super::stream::BoxIo;
use super::tunnel::{First, Opening, not_tls, sni_mismatch};

/// Beginnings of HTTP requests.
const METHODS: &[&str] =
    &["GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "TRACE ", "CONNECT ", "PRI "];

impl Proxy<'_> {
    /// Takes a connection that was meant for `meant`.
    pub(super) async fn direct(&self, stream: TcpStream, meant: SocketAddr) {
        let (address, port) = (meant.ip().to_canonical(), meant.port());
        let mut at = Destination { host: address.to_string(), port };
        let named = Names::is_made_up(address);
        if named {
            let IpAddr::V4(made_up) = address else { return };
            let name = self.names.borrow().name_of(made_up).map(str::to_owned);
            match name {
                Some(name) => at.host = name,
                None => {
                    let reason = "the address stands for a name that nobody asked for, or too long ago";
                    let decision = Decision::new(Verdict::Deny, "network.unknown-address", reason);
                    return self.refuse_unseen(&at, decision);
                }
            }
        }
        // A literal address that TLS or HTTP then names: the name has to lead to that very address.
        let mut only = None;
        let mut stream: BoxIo = Box::new(stream);
        if port == 80 {
            return self.http(stream, Some(Origin { at, via: Via::Direct, tls: false, only })).await;
        }
        let Ok(first) = self.first(&mut stream, port, self.settings.limits.first_bytes).await else { return };
        match &first.hello {
            Ok(hello) => match (&hello.server_name, named) {
                (Some(name), true) if normal_host(name).is_ok_and(|name| name == at.host) => {}
                (name, true) => {
                    return self.refuse_unseen(&at, sni_mismatch(&at, name.as_deref()));
                }
                (Some(name), false) => match normal_host(name) {
                    Ok(name) if name != at.host => {
                        at.host = name;
                        only = Some(address);
                    }
                    Ok(_) => {}
                    Err(_) => return self.refuse_unseen(&at, sni_mismatch(&at, Some(name))),
                },
                (None, false) => {}
            },
            Err(HelloError::NotTls) if port != 443 => {
                let http = METHODS.iter().any(|method| first.bytes.starts_with(method.as_bytes()));
                if http {
                    let stream = First::put_back(first.bytes, stream);
                    return self.http(stream, Some(Origin { at, via: Via::Direct, tls: false, only })).await;
                }
            }
            Err(error) => return self.refuse_unseen(&at, not_tls(&at, *error)),
        }
        let opening = Opening::Direct(First::put_back(first.bytes, stream));
        self.tunnel(at, Via::Direct, only, Duration::ZERO, opening).await;
    }

    /// Refuses a connection before anything was decided about its destination.
    fn refuse_unseen(&self, at: &Destination, decision: Decision) {
        let connect = Connect { destination: at.clone(), via: Via::Direct, method: None, path: None };
        // The connection closes either way.
        let stop = self.refuse(&connect, decision);
        self.note_stop(at, &stop);
    }
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
