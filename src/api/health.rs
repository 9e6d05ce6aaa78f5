//! What needs no key: whether the service lives and can bill, and what its API is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use crate::store::{StoreError, TxFuture};

use super::Api;
use super::call::{json, object};
use super::error::NOT_OPEN;

pub(super) type Page = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// How long the database may take to say that it is there.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How long its writer may take before it counts as busy.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// The process answers.
pub(super) async fn livez() -> Response<Body> {
    answer(StatusCode::OK, "application/json", object(&[("live", json(&true))]))
}

/// It cannot bill without a database.
pub(super) async fn not_open() -> Response<Body> {
    readiness(&[NOT_OPEN.to_owned()])
}

/// Whether it could bill now; what is wrong is named, but no tenant and no secret.
pub(super) fn readyz(api: Arc<Api>) -> Page {
    Box::pin(async move {
        let problems: Vec<String> = match tokio::time::timeout(READY_WITHIN, problems(&api)).await {
            Ok(problems) => api.monitor.stopping().into_iter().chain(problems).collect(),
            Err(_) => {
                vec![format!("the {} database does not answer within {} s", api.store.kind(), READY_WITHIN.as_secs())]
            }
        };
        readiness(&problems)
    })
}

fn readiness(problems: &[String]) -> Response<Body> {
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = object(&[("ready", json(&problems.is_empty())), ("problems", json(&problems))]);
    answer(status, "application/json", body)
}

/// Figures for Prometheus; those of the ledger are left out while the database does not answer.
pub(super) fn metrics(api: Arc<Api>) -> Page {
    Box::pin(async move {
        let text = api.monitor.metrics(&api.store, api.clock.now(), READY_WITHIN).await;
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    })
}

async fn problems(api: &Api) -> Vec<String> {
    let kind = api.store.kind();
    let told = |what: &str, error: StoreError| {
        tracing::warn!("not ready: the {kind} database cannot be {what}: {:#}", anyhow::Error::new(error));
        vec![format!("the {kind} database cannot be {what}")]
    };
    let read = async {
        let mut session = api.store.read().await?;
        let tenants = session.list_tenants().await?;
        session.end().await;
        Ok(tenants.into_iter().filter(|(_, tenant)| tenant.is_err()).count())
    };
    let unusable = match read.await {
        Ok(unusable) => unusable,
        Err(error) => return told("read", error),
    };
    if let Some(Err(error)) = try_to_write(api).await {
        return told("written", error);
    }
    match unusable {
        0 => Vec::new(),
        1 => vec!["1 tenant has settings that cannot be read: billday verify names it".to_owned()],
        several => vec![format!("{several} tenants have settings that cannot be read: billday verify names them")],
    }
}

/// An empty transaction; `None` while somebody else is writing, which is no fault.
async fn try_to_write(api: &Api) -> Option<Result<(), StoreError>> {
    // One at a time: those that wait for a long import must not pile up.
    let probe = api.probe.clone().try_acquire_owned().ok()?;
    let work = api.store.with_tx(move |_| {
        Box::pin(async move {
            drop(probe);
            Ok(())
        }) as TxFuture<'_, ()>
    });
    tokio::time::timeout(WRITTEN_WITHIN, work).await.ok()
}

pub(super) fn openapi(api: Arc<Api>) -> Page {
    Box::pin(async move { answer(StatusCode::OK, "application/json", api.openapi.clone()) })
}

pub(super) fn docs(api: Arc<Api>) -> Page {
    Box::pin(async move {
        let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", api.docs.clone());
        let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
        page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        page
    })
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
