//! Stands between the program and PostgreSQL, and cuts connections around a commit.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::random::Random;

/// Every so many commits are cut.
const ONE_IN: u64 = 12;

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    random: Mutex<Random>,
    before: AtomicU64,
    within: AtomicU64,
    after: AtomicU64,
}

/// Where a connection is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// The server never hears of the commit.
    Before,
    /// It hears of it, and nobody waits until it has obeyed.
    Within,
    /// It commits, and its answer is lost.
    After,
}

impl Proxy {
    pub async fn to(server: SocketAddr, random: Random) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (before, within, after) = Default::default();
        let shared = Arc::new(Shared { server, random: Mutex::new(random), before, within, after });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = serving.clone();
                // Connections that end are what this is about.
                lines.spawn(async move {
                    let _ = shared.pass(client).await;
                });
                while lines.try_join_next().is_some() {}
            }
        });
        Self { address, shared, task }
    }

    /// Commits that the server never heard of, those that it was left alone with, and those whose answer was lost.
    pub fn cuts(&self) -> [u64; 3] {
        [&self.shared.before, &self.shared.within, &self.shared.after].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn draw(&self) -> Option<Cut> {
        let mut random = self.random.lock().expect("chance");
        (random.below(ONE_IN) == 0).then(|| [Cut::Before, Cut::Within, Cut::After][random.below(3) as usize])
    }

    async fn pass(&self, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(self.server).await?;
        // Each message goes on at once.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        // What the server answers, until nobody is to hear it.
        let (mute, muted) = watch::channel(false);
        let mut answers = tokio::spawn(async move {
            let mut buffer = vec![0; 16_384];
            loop {
                let length = from_server.read(&mut buffer).await?;
                if length == 0 || *muted.borrow() {
                    return Ok::<_, std::io::Error>(());
                }
                to_client.write_all(&buffer[..length]).await?;
            }
        });
        let cut = tokio::select! {
            cut = self.forward(&mut from_client, &mut to_server) => cut?,
            _ = &mut answers => return Ok(()),
        };
        match cut {
            None => {}
            Some((Cut::Before, _)) => {
                self.before.fetch_add(1, Ordering::Relaxed);
            }
            Some((cut, last)) => {
                let _ = mute.send(true);
                // The rest of the request, up to the word that has the server carry it out.
                to_server.write_all(&last).await?;
                while let Some((kind, message)) = message(&mut from_client).await? {
                    to_server.write_all(&message).await?;
                    if kind == b'S' {
                        break;
                    }
                }
                if matches!(cut, Cut::After) {
                    // It has obeyed.
                    let _ = (&mut answers).await;
                    self.after.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.within.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        answers.abort();
        Ok(())
    }

    /// Passes on what the client says until a commit that is to be cut; gives that, not passed on.
    async fn forward(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
    ) -> std::io::Result<Option<(Cut, Vec<u8>)>> {
        // First messages have a length and no kind: a wish for encryption, which the server refuses, and the greeting.
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length).await?;
            let mut rest = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
            from.read_exact(&mut rest).await?;
            to.write_all(&[&length[..], &rest].concat()).await?;
            if rest.get(..4) != Some(&80_877_103_u32.to_be_bytes()) {
                break;
            }
        }
        while let Some((kind, message)) = message(from).await? {
            // It ends a plain query.
            if kind == b'Q'
                && message.ends_with(b"commit\0")
                && let Some(cut) = self.draw()
            {
                return Ok(Some((cut, message)));
            }
            to.write_all(&message).await?;
        }
        Ok(None)
    }
}

/// The next message with its kind; nothing at the end of the line.
async fn message(from: &mut OwnedReadHalf) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut message = head.to_vec();
    message.resize(1 + length, 0);
    from.read_exact(&mut message[5..]).await?;
    Ok(Some((head[0], message)))
}
