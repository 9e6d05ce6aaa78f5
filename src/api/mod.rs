//! The HTTP API: what others build on, in the shapes of the public contract.
//!
//! ```text
//! server (connections, limits) ─► routes ─► call: key ─ tenant ─ permission ─ rate ─ body ─► one resource's file ─► answer
//!                                                                                              │
//!                                                       changes go through `change`, once ◄────┘
//! ```
//!
//! `ROUTES` is the whole API on one screen; the OpenAPI document and the page at `/docs` are made from it.

mod audit_log;
mod auth;
mod billing_groups;
mod call;
mod customers;
mod docs;
mod error;
mod health;
mod jobs;
mod limiter;
mod list_query;
mod openapi;
mod outbox;
mod payments;
mod previews;
mod query;
mod replay;
mod runs;
mod server;
mod subscriptions;
mod tenant;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodFilter, get, on};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::documents::DocumentStore;
use crate::invoice::InvoiceFiles;
use crate::monitor::Monitor;
use crate::store::Store;

use call::{Call, Work};
use error::ApiError;
use jobs::Jobs;
use limiter::Limiter;

pub use auth::{Token, new_token};
pub use list_query::{ListQuery, read_list_query};
pub use server::{serve, serve_before};

/// One operation at one place.
pub(crate) struct Route {
    method: Method,
    /// With its id, if it has one, as `{…}` last or before the name of an action.
    path: &'static str,
    operation: &'static Operation,
}

const fn route(method: Method, path: &'static str, operation: &'static Operation) -> Route {
    Route { method, path, operation }
}

/// Every operation that needs a key.
#[rustfmt::skip] // one line, one operation
static ROUTES: [Route; 29] = [
    route(Method::GET,    "/v1/billing-groups",                  &billing_groups::LIST),
    route(Method::POST,   "/v1/billing-groups",                  &billing_groups::CREATE),
    route(Method::GET,    "/v1/billing-groups/{billingGroupId}", &billing_groups::GET),
    route(Method::PATCH,  "/v1/billing-groups/{billingGroupId}", &billing_groups::UPDATE),
    route(Method::DELETE, "/v1/billing-groups/{billingGroupId}", &billing_groups::DELETE),
    route(Method::GET,    "/v1/billing-groups/{billingGroupId}/preview", &previews::GROUP),
    route(Method::GET,    "/v1/payments",                        &payments::LIST),
    route(Method::GET,    "/v1/payments/{paymentId}",            &payments::GET),
    route(Method::POST,   "/v1/payments/{paymentId}/mark-paid",  &payments::MARK_PAID),
    route(Method::POST,   "/v1/payments/{paymentId}/cancel",     &payments::CANCEL),
    route(Method::GET,    "/v1/payments/{paymentId}/invoice.pdf", &payments::INVOICE_PDF),
    route(Method::GET,    "/v1/payments/{paymentId}/invoice.xml", &payments::INVOICE_XML),
    route(Method::GET,    "/v1/customers",                       &customers::LIST),
    route(Method::POST,   "/v1/customers",                       &customers::CREATE),
    route(Method::GET,    "/v1/customers/{customerId}",          &customers::GET),
    route(Method::PUT,    "/v1/customers/{customerId}",          &customers::UPDATE),
    route(Method::GET,    "/v1/subscriptions",                   &subscriptions::LIST),
    route(Method::POST,   "/v1/subscriptions",                   &subscriptions::CREATE),
    route(Method::GET,    "/v1/subscriptions/{subscriptionId}",  &subscriptions::GET),
    route(Method::PATCH,  "/v1/subscriptions/{subscriptionId}",  &subscriptions::UPDATE),
    route(Method::POST,   "/v1/subscriptions/{subscriptionId}/cancel", &subscriptions::CANCEL),
    route(Method::GET,    "/v1/subscriptions/{subscriptionId}/preview", &previews::SUBSCRIPTION),
    route(Method::GET,    "/v1/tenant",                          &tenant::GET),
    route(Method::PATCH,  "/v1/tenant",                          &tenant::UPDATE),
    route(Method::GET,    "/v1/runs",                            &runs::LIST),
    route(Method::POST,   "/v1/runs",                            &runs::CREATE),
    route(Method::GET,    "/v1/runs/{runId}",                    &runs::GET),
    route(Method::GET,    "/v1/outbox",                          &outbox::LIST),
    route(Method::GET,    "/v1/audit-log",                       &audit_log::LIST),
];

/// The shapes that the operations take and give, by name.
fn schemas() -> Vec<(&'static str, serde_json::Value)> {
    [
        openapi::common_schemas(),
        billing_groups::schemas(),
        payments::schemas(),
        customers::schemas(),
        subscriptions::schemas(),
        previews::schemas(),
        tenant::schemas(),
        runs::schemas(),
        outbox::schemas(),
        audit_log::schemas(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What one operation does, and what is told about it.
pub(crate) struct Operation {
    /// The contract's `operationId`.
    id: &'static str,
    /// The resource, as the contract tags it.
    tag: &'static str,
    summary: &'static str,
    /// Whether the public service lacks it.
    extension: bool,
    /// The query parameters it knows; any other is ignored.
    query: &'static [Parameter],
    takes: Takes,
    /// Status and schema of the answer, and what it is; a file has its media type for a schema.
    gives: (u16, &'static str, &'static str),
    /// Codes of its own, beside those of every operation.
    codes: &'static [&'static str],
    versions: Versions,
    run: fn(Call) -> Work,
}

/// A query parameter.
pub(crate) struct Parameter {
    name: &'static str,
    description: &'static str,
    /// The words that are taken, if only some are.
    words: &'static [&'static str],
    /// Whether the public service lacks it.
    extension: bool,
}

impl Parameter {
    const fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, description, words: &[], extension: false }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    const fn extension(self) -> Self {
        Self { extension: true, ..self }
    }
}

/// What body an operation reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// An object of this schema.
    Json(&'static str),
    /// The same, or no body at all.
    JsonOrNothing(&'static str),
}

/// What an operation does about the version of its object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    None,
    /// Sends an `ETag`.
    Sent,
    /// Heeds `If-Match`.
    Heeded,
    /// Both.
    SentAndHeeded,
}

/// How the API behaves where its user may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests that one key may make in a minute; `None` for as many as it likes.
    pub requests_per_minute: Option<u32>,
    /// About how many rentals one transaction of a run holds.
    pub batch_rentals: usize,
    /// Where the documents of invoices are kept; without it they are rendered anew for whoever asks.
    pub documents: Option<DocumentStore>,
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self { requests_per_minute: None, batch_rentals: 2_000, documents: None, limits: Limits::default() }
    }
}

/// What no client may exceed, so that none can keep others from being served.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; others wait to be accepted.
    pub connections: usize,
    /// Requests that are worked on at a time; others wait for one of these.
    pub in_flight: usize,
    /// How long a request's head may take, and how long a connection may be idle between two requests.
    pub head_within: Duration,
    /// How long a request may take from its head to its answer.
    pub answered_within: Duration,
    /// How long a client may take no byte of an answer that waits for it.
    pub taken_within: Duration,
    /// How long requests may take to end when the server ends.
    pub drained_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            in_flight: 64,
            head_within: Duration::from_secs(10),
            answered_within: Duration::from_secs(30),
            taken_within: Duration::from_secs(30),
            drained_within: Duration::from_secs(10),
        }
    }
}

/// What all requests share.
pub struct Api {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: Limits,
    limiter: Option<Limiter>,
    /// Requests that are worked on.
    in_flight: Arc<Semaphore>,
    /// Runs that were asked for here.
    jobs: Arc<Jobs>,
    batch_rentals: usize,
    invoices: InvoiceFiles,
    documents: Option<DocumentStore>,
    /// What the rest of the process does, and what keeps it from billing.
    monitor: Arc<Monitor>,
    /// Held by the one check that tries whether the database can be written.
    probe: Arc<Semaphore>,
    openapi: String,
    docs: String,
}

impl Api {
    /// The API alone.
    pub fn new(store: Store, clock: Arc<dyn Clock>, settings: Settings) -> Arc<Self> {
        Self::beside(Arc::default(), store, clock, settings)
    }

    /// The API of a process that does more, and whose monitor it shows.
    pub fn beside(monitor: Arc<Monitor>, store: Store, clock: Arc<dyn Clock>, settings: Settings) -> Arc<Self> {
        let document = openapi::document();
        Arc::new(Self {
            store,
            clock,
            limits: settings.limits,
            limiter: settings.requests_per_minute.map(Limiter::new),
            in_flight: Arc::new(Semaphore::new(settings.limits.in_flight)),
            jobs: Arc::default(),
            batch_rentals: settings.batch_rentals,
            invoices: InvoiceFiles::default(),
            documents: settings.documents,
            monitor,
            probe: Arc::new(Semaphore::new(1)),
            docs: docs::page(&document),
            openapi: document.to_string(),
        })
    }
}

/// While the database is not open yet: that the process lives, and that it can do nothing.
fn router_before() -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::not_open))
        .fallback(|| async { ApiError::not_open().response(None) })
}

/// All routes: those of the table, and the few that need no key.
fn router(api: &Arc<Api>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let api = api.clone();
        let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
        router = router.route(route.path, on(filter, move |request: Request| call::answer(api, route, request)));
    }
    let open = |page: fn(Arc<Api>) -> health::Page| {
        let api = api.clone();
        get(move || page(api))
    };
    router
        .route("/livez", get(health::livez))
        .route("/readyz", open(health::readyz))
        .route("/metrics", open(health::metrics))
        .route("/openapi.json", open(health::openapi))
        .route("/docs", open(health::docs))
        .fallback(|request: Request| async move { call::refuse(&request, ApiError::unknown_route()) })
        .method_not_allowed_fallback(
            |request: Request| async move { call::refuse(&request, ApiError::unknown_method()) },
        )
}
