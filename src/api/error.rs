//! What is answered when something is not done: `{"error": {"code", "message", "details"?}}`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use crate::change::{NotMade, Refusal, RefusalKind};
use crate::input::Problem;
use crate::store::StoreError;

use super::call::{json, object};

/// What keeps a process from working that has just begun.
pub(super) const NOT_OPEN: &str = "the database is not open yet";

/// An answer that is not 2xx.
#[derive(Debug)]
pub(super) struct ApiError {
    pub status: StatusCode,
    code: &'static str,
    message: String,
    details: Vec<Problem>,
    header: Option<Header>,
    /// What went wrong inside, for the log and for nobody else.
    pub cause: Option<String>,
}

/// What some answers say beside their body.
#[derive(Debug)]
enum Header {
    /// How to authenticate.
    Challenge,
    /// In how many seconds to come again.
    RetryAfter(i64),
    /// The rest of the request is not waited for.
    Close,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, details: Vec::new(), header: None, cause: None }
    }

    fn with_header(self, header: Header) -> Self {
        Self { header: Some(header), ..self }
    }

    pub(super) fn unknown_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this address: see /docs")
    }

    /// `Allow` is added by whoever knows the methods.
    pub(super) fn unknown_method() -> Self {
        let message = "this address does not take this method: see the Allow header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
    }

    pub(super) fn auth_required() -> Self {
        let message = "an API key is needed: Authorization: Bearer <key>";
        Self::new(StatusCode::UNAUTHORIZED, "AUTH_REQUIRED", message).with_header(Header::Challenge)
    }

    pub(super) fn invalid_token() -> Self {
        let message = "the API key is unknown, has expired or was revoked";
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_TOKEN", message).with_header(Header::Challenge)
    }

    pub(super) fn no_tenant_access() -> Self {
        let message = "the Tenant-ID header must name a tenant that the API key may act for";
        Self::new(StatusCode::FORBIDDEN, "NO_TENANT_ACCESS", message)
    }

    pub(super) fn read_only() -> Self {
        Self::new(StatusCode::FORBIDDEN, "INSUFFICIENT_PERMISSIONS", "the API key may only read")
    }

    pub(super) fn rate_limited(seconds: i64) -> Self {
        let message = format!("too many requests: the next is taken in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).with_header(Header::RetryAfter(seconds))
    }

    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the body is larger than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    }

    pub(super) fn not_json() -> Self {
        let message = "a body needs Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
    }

    /// The body did not arrive in time.
    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body did not arrive in time")
            .with_header(Header::Close)
    }

    /// The body broke off: whoever sent it hears this at best.
    pub(super) fn broken_body() -> Self {
        Refusal::shapes(vec![Problem::new("", "broke off before its end", "invalid_json")]).into()
    }

    /// Nothing is wrong with the request; it may succeed later.
    pub(super) fn unavailable(cause: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "too much to do: try again")
            .with_header(Header::RetryAfter(1));
        Self { cause: Some(cause.into()), ..error }
    }

    /// Nobody knows what today is; the log says more than a tenant needs to.
    pub(super) fn wrong_clock(cause: impl Into<String>) -> Self {
        let message = "the server's clock cannot be believed, so nothing is billed for today: tell its operator, or name a runDate";
        let error =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).with_header(Header::RetryAfter(60));
        Self { cause: Some(cause.into()), ..error }
    }

    pub(super) fn not_open() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", NOT_OPEN).with_header(Header::RetryAfter(1))
    }

    pub(super) fn internal(cause: impl Into<String>) -> Self {
        let message = "something went wrong inside; the log of the server tells what, under this requestId";
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", message);
        Self { cause: Some(cause.into()), ..error }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Precondition => StatusCode::PRECONDITION_FAILED,
        };
        Self { details: refusal.details, ..Self::new(status, refusal.code, refusal.message) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict | StoreError::Busy(_) => Self::unavailable(error.to_string()),
            error => Self::internal(format!("{:#}", anyhow::Error::new(error))),
        }
    }
}

impl From<NotMade> for ApiError {
    fn from(not_made: NotMade) -> Self {
        match not_made {
            NotMade::Refused(refusal) => refusal.into(),
            NotMade::Store(error) => error.into(),
        }
    }
}

fn detail(problem: &Problem) -> String {
    let mut fields =
        vec![("path", json(&problem.path)), ("message", json(&problem.message)), ("code", json(&problem.code))];
    fields.extend(problem.billing_group_id.as_ref().map(|id| ("billingGroupId", json(id))));
    object(&fields)
}

impl ApiError {
    /// The answer to a request with this id; people who have to look into the log are told the id.
    pub(super) fn response(self, request_id: Option<&str>) -> Response<Body> {
        let mut error = vec![("code", json(&self.code)), ("message", json(&self.message))];
        if !self.details.is_empty() {
            let details: Vec<String> = self.details.iter().map(detail).collect();
            error.push(("details", format!("[{}]", details.join(","))));
        }
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            error.extend(request_id.map(|id| ("requestId", json(&id))));
        }
        let body = object(&[("error", object(&error))]);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (name, value) = match self.header {
            None => return response,
            Some(Header::Challenge) => (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Some(Header::RetryAfter(seconds)) => (header::RETRY_AFTER, seconds.into()),
            Some(Header::Close) => (header::CONNECTION, HeaderValue::from_static("close")),
        };
        response.headers_mut().insert(name, value);
        response
    }
}
