//! Connections: how many, how long they may take, and how they end.
//!
//! A loop of our own, since axum's sets no limit on how long a request's head may take and waits for ever when it ends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep};

use super::{Api, Limits, router, router_before};

/// The most that the head of a request may hold.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Serves the API until `shutdown`; then takes no more, and lets requests that have begun end for a while.
pub async fn serve(listener: TcpListener, api: Arc<Api>, shutdown: impl Future<Output = ()>) {
    let begun = accept(&listener, &router(&api), api.limits, shutdown).await;
    drop(listener);
    begun.end(api.limits).await;
}

/// Says that the process lives and cannot bill, until `opened`: whoever connects then waits for [`serve`].
pub async fn serve_before(listener: &TcpListener, opened: impl Future<Output = ()>) {
    let limits = Limits { drained_within: Duration::from_secs(1), ..Limits::default() };
    accept(listener, &router_before(), limits, opened).await.end(limits).await;
}

/// Connections that may not have ended.
struct Begun {
    permits: Arc<Semaphore>,
    ending: watch::Sender<bool>,
}

impl Begun {
    /// Lets each end the request that it is at.
    async fn end(self, limits: Limits) {
        let _ = self.ending.send(true);
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(limits.drained_within, self.permits.acquire_many(all)).await.is_err() {
            tracing::warn!("requests were cut off that had not ended within {:?}", limits.drained_within);
        }
    }
}

/// Takes connections until `shutdown`.
async fn accept(listener: &TcpListener, router: &Router, limits: Limits, shutdown: impl Future<Output = ()>) -> Begun {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (ending, ended) = watch::channel(false);
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = &mut shutdown => return Begun { permits, ending },
        };
        match accepted {
            Ok((stream, _)) => {
                let served = connection(stream, router.clone(), limits, ended.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                // Out of file descriptors, most likely: one has to end first.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut ending: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Impatient { stream, taken_within: limits.taken_within, waiting: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(connection);
    // Errors are the client's: it went away, or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(limits.drained_within, connection).await;
}

/// A stream that gives up on a client which does not take what is written to it.
struct Impatient {
    stream: TcpStream,
    taken_within: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn wait<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let taken_within = self.taken_within;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(taken_within)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
