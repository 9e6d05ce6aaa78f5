//! The line below the conversation: it neither waits for an answer without end nor lets anything slip in before encryption.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lettre::transport::smtp::Error;
#[expect(deprecated, reason = "lettre encrypts no stream of ours in any other way")]
use lettre::transport::smtp::client::AsyncNetworkStream;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// More bytes than any answer to one command has.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A TCP connection that watches what is read from it.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    /// Bytes read since the last one was written.
    answered: usize,
    /// Whether what was written last asks for encryption. Then bytes are read one by one: what follows the answer in clear,
    /// put there by somebody on the way, must not be taken for an answer from inside the encrypted line.
    before_tls: bool,
}

/// Greets the server over a line, encrypted from the first byte if `tls` says how.
pub(super) async fn greet(
    wire: Wire,
    tls: Option<TlsParameters>,
    hello_name: &ClientId,
) -> Result<AsyncSmtpConnection, Error> {
    let Some(tls) = tls else { return AsyncSmtpConnection::connect_with_transport(Box::new(wire), hello_name).await };
    let peer = wire.peer_addr();
    #[expect(deprecated, reason = "lettre encrypts no stream of ours in any other way")]
    let mut stream = AsyncNetworkStream::use_existing_tokio1(Box::new(wire));
    stream.upgrade_tls(tls).await?;
    AsyncSmtpConnection::connect_with_transport(Box::new(Encrypted { stream, peer: peer.ok() }), hello_name).await
}

/// An encrypted line as lettre takes one.
#[derive(Debug)]
struct Encrypted {
    #[expect(deprecated, reason = "as above")]
    stream: AsyncNetworkStream,
    peer: Option<SocketAddr>,
}

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(futures_io::AsyncRead::poll_read(Pin::new(&mut self.stream), cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        futures_io::AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures_io::AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures_io::AsyncWrite::poll_close(Pin::new(&mut self.stream), cx)
    }
}

/// Connects to the first address of a host that answers.
pub(super) async fn connect(host: &str, port: u16, limit: Duration) -> io::Result<Wire> {
    let too_slow = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs_f32()));
    let addresses: Vec<SocketAddr> =
        timeout(limit, lookup_host((host, port))).await.map_err(|_| too_slow())??.collect();
    let each = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Small commands and their answers alternate.
                tcp.set_nodelay(true)?;
                return Ok(Wire { tcp, answered: 0, before_tls: false });
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = too_slow(),
        }
    }
    Err(last)
}

impl Wire {
    pub(super) fn peer_ip(&self) -> io::Result<IpAddr> {
        self.tcp.peer_addr().map(|address| address.ip())
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.before_tls {
            let mut byte = [0];
            let mut one = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut one))?;
            buf.put_slice(one.filled());
        } else {
            ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        }
        self.answered += buf.filled().len() - before;
        if self.answered > ANSWER_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other("the answer does not end")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered = 0;
        self.before_tls = bytes == b"STARTTLS\r\n";
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
