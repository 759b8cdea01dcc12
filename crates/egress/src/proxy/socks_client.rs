//! Clients that speak SOCKS5.

use action::{Destination, Via};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Proxy;
use super::socks;
use super::stream::{BoxIo, Rewound};
use super::tunnel::Opening;

impl Proxy<'_> {
    /// Takes a connection whose first byte is that of SOCKS5.
    pub(super) async fn socks(&self, mut stream: BoxIo) {
        let Ok(Some(found)) = timeout(self.settings.limits.header, socks_handshake(&mut stream)).await else {
            return;
        };
        let (at, rest) = found;
        let stream: BoxIo = if rest.is_empty() { stream } else { Box::new(Rewound::new(rest, stream)) };
        let opening = Opening::Socks(stream);
        match self.meant(at) {
            Ok(at) => self.tunnel(at, Via::Socks, None, self.settings.limits.first_bytes, opening).await,
            Err(refusal) => opening.refuse(refusal).await,
        }
    }
}

/// Reads both messages of SOCKS5; `None` if that is not possible. Gives what the client said beyond them.
async fn socks_handshake(stream: &mut BoxIo) -> Option<(Destination, Vec<u8>)> {
    let mut bytes = Vec::new();
    let length = loop {
        match socks::greeting(&bytes) {
            Ok(Some(length)) => break length,
            Ok(None) => more(stream, &mut bytes).await?,
            Err(_) => {
                let _ = stream.write_all(&[5, 0xff]).await;
                return None;
            }
        }
    };
    bytes.drain(..length);
    stream.write_all(&[5, 0]).await.ok()?;
    loop {
        match socks::request(&bytes) {
            Ok(Some((at, length))) => {
                bytes.drain(..length);
                return Some((at, bytes));
            }
            Ok(None) => more(stream, &mut bytes).await?,
            Err(error) => {
                let _ = stream.write_all(&socks::reply(error.code())).await;
                return None;
            }
        }
    }
}

async fn more(stream: &mut BoxIo, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; socks::MAX_MESSAGE];
    let count = stream.read(&mut buffer).await.ok().filter(|&count| count > 0)?;
    bytes.extend_from_slice(&buffer[..count]);
    Some(())
}
