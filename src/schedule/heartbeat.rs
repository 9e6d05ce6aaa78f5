//! A sign to a watching service that the day's work is done: one GET, of whose answer only the status counts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Calls the URL in a task of its own. That it fails is logged, without the URL, and keeps nothing else from going on.
pub(super) fn beat(url: &str) {
    let url = url.to_owned();
    tokio::spawn(async move {
        match tokio::time::timeout(WITHIN, get(&url)).await {
            Ok(Ok(())) => tracing::debug!("the heartbeat was heard"),
            Ok(Err(error)) => tracing::warn!("the heartbeat failed: {error:#}"),
            Err(_) => tracing::warn!("the heartbeat was not answered within {} s", WITHIN.as_secs()),
        }
    });
}

/// The parts of a URL that a request needs.
struct Target<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
    /// Host and port as they were written.
    authority: &'a str,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (tls, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // An IPv6 address is written in brackets.
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        (!host.is_empty() && plain(rest)).then_some(Self { tls, host, port, authority, path })
    }
}

async fn get(url: &str) -> anyhow::Result<()> {
    let target = Target::parse(url).context("daemon.heartbeatUrl is no URL")?;
    let stream = TcpStream::connect((target.host, target.port)).await.context("cannot connect")?;
    let status = if target.tls {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(target.host.to_owned()).context("no name of a server")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("no TLS")?;
        ask(stream, &target).await?
    } else {
        ask(stream, &target).await?
    };
    ensure!((200..300).contains(&status), "the answer was {status}");
    Ok(())
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, target: &Target<'_>) -> anyhow::Result<u16> {
    let slash = if target.path.starts_with('/') { "" } else { "/" };
    let head = format!(
        "GET {slash}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: billday/{}\r\nConnection: close\r\n\r\n",
        target.path,
        target.authority,
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    // "HTTP/1.1 204"
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.context("no answer")?;
    let text = std::str::from_utf8(&answer).ok().filter(|text| text.starts_with("HTTP/1."));
    match text.and_then(|text| text[9..].parse().ok()) {
        Some(status) => Ok(status),
        None => bail!("the answer is not HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, parts) in [
            ("https://hc.example/ping/1?a=b#c", Some((true, "hc.example", 443, "/ping/1?a=b"))),
            ("http://[::1]:8000", Some((false, "::1", 8000, ""))),
            ("http://h?x", Some((false, "h", 80, "?x"))),
            ("ftp://h/", None),
            ("http:///x", None),
            ("http://h:x/", None),
            ("http://h/a b", None),
        ] {
            let target = Target::parse(url).map(|target| (target.tls, target.host, target.port, target.path));
            assert_eq!(target, parts, "{url}");
        }
    }
}
