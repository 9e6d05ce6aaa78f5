//! `billday serve`: the API alone.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use crate::api::{self, Api, Settings};

use super::{App, Exit, Wrong, told_to_stop};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Address and port to serve on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// Serves until it is told to stop; requests that have begun end first.
pub(super) async fn serve(app: &App, args: ServeArgs) -> anyhow::Result<Exit> {
    let listener = listen(app, args.listen).await?;
    let store = app.store().await?;
    let api = Api::new(store.clone(), app.clock.clone(), settings(app)?);
    eprintln!("serving the API on http://{0}/ (its description: http://{0}/docs)", listener.local_addr()?);
    api::serve(listener, api, told_to_stop()).await;
    store.close().await;
    Ok(Exit::Done)
}

/// Takes an address that what leaves the machine is safe on.
pub(super) async fn listen(app: &App, address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() && !app.config.api.behind_proxy {
        return Err(Wrong(format!(
            "--listen {address} is reached from other machines, and the API does not encrypt: put a proxy with TLS in front of it \
             and set api.behindProxy = true, or use a loopback address such as 127.0.0.1:8080"
        ))
        .into());
    }
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

pub(super) fn settings(app: &App) -> anyhow::Result<Settings> {
    let requests_per_minute = Some(app.config.api.requests_per_minute).filter(|limit| *limit > 0);
    let batch_rentals = app.config.run.batch_rentals as usize;
    let documents = Some(super::documents(&app.config)?);
    Ok(Settings { requests_per_minute, batch_rentals, documents, ..Settings::default() })
}
