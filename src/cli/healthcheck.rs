//! `billday healthcheck`: asks a running daemon how it is, for containers that have no other program to ask with.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Exit;

#[derive(Args)]
pub(super) struct HealthcheckArgs {
    /// Where it serves
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// Ask only whether it answers, not whether it can bill
    #[arg(long)]
    live: bool,
}

/// How long an answer may take, and how long it may be.
const WITHIN: Duration = Duration::from_secs(10);
const BYTES_MAX: u64 = 64 * 1024;

pub(super) async fn healthcheck(args: HealthcheckArgs) -> anyhow::Result<Exit> {
    let page = if args.live { "/livez" } else { "/readyz" };
    let answer = tokio::time::timeout(WITHIN, ask(args.address, page));
    let answer =
        answer.await.with_context(|| format!("{} did not answer within {} s", args.address, WITHIN.as_secs()))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if head.split_whitespace().nth(1) != Some("200") {
        bail!("{page} says {}", body.trim());
    }
    println!("{}", body.trim());
    Ok(Exit::Done)
}

async fn ask(address: SocketAddr, page: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("nothing serves at {address}"))?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}
