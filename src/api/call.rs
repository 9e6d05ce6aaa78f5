//! One request from its head to its answer: who asks, may they, what they send; then the operation itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::RequestPartsExt as _;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use crate::change::By;
use crate::input::value::Object;
use crate::input::{ID_MAX, Problem, parse_object, text_fault};

use super::auth::{Caller, authenticate};
use super::error::ApiError;
use super::query::Query;
use super::{Api, Route, Takes};

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What an operation does, when it does it.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send>>;

/// A request that got through: its caller is known and may ask this.
pub(super) struct Call {
    pub api: Arc<Api>,
    pub key_id: String,
    pub by: By,
    /// The id in the path; `None` where there is none, and where it is one that nothing can have.
    pub id: Option<String>,
    pub path: String,
    pub headers: HeaderMap,
    pub query: Query,
    /// Empty where the operation takes none.
    pub body: Bytes,
}

impl Call {
    /// The object in the body; what is wrong with it stands beside what is wrong with the rest of the request.
    pub(super) fn object(&mut self) -> Result<(Object, Vec<Problem>), ApiError> {
        let mut problems = std::mem::take(&mut self.query.problems);
        match parse_object(&self.body) {
            Ok(object) => Ok((object, problems)),
            Err(problem) => {
                problems.push(problem);
                Err(crate::change::Refusal::shapes(problems).into())
            }
        }
    }
}

impl Call {
    /// The same, where no body at all is as good as an object without fields.
    pub(super) fn object_or_nothing(&mut self) -> Result<(Object, Vec<Problem>), ApiError> {
        if self.body.is_empty() {
            return Ok((Object::new(), std::mem::take(&mut self.query.problems)));
        }
        self.object()
    }
}

/// What is answered when all went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Bytes,
    media_type: &'static str,
    /// What a file is called where it is kept.
    file_name: Option<String>,
    pub etag: Option<String>,
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An object of fields that are JSON already, in this order.
pub(super) fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json(name))).collect();
    format!("{{{}}}", fields.join(","))
}

impl Answer {
    /// Text that is JSON already.
    pub(super) fn of_json(status: u16, body: String) -> Self {
        Self { status, body: body.into(), media_type: "application/json", file_name: None, etag: None }
    }

    /// An object of fields that are JSON already, in this order.
    pub(super) fn ok(fields: &[(&str, String)]) -> Self {
        Self::of_json(200, object(fields))
    }

    /// A value without anything around it.
    pub(super) fn whole(value: &impl Serialize) -> Self {
        Self::of_json(200, json(value))
    }

    /// A file, whose name may hold anything: what could not stand in a header is left out of it.
    pub(super) fn file(media_type: &'static str, name: &str, body: Vec<u8>) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name = name.chars().map(plain).collect();
        Self { status: 200, body: body.into(), media_type, file_name: Some(name), etag: None }
    }

    pub(super) fn created(self) -> Self {
        Self { status: 201, ..self }
    }

    /// What was asked for begins now and is not done yet.
    pub(super) fn accepted(self) -> Self {
        Self { status: 202, ..self }
    }

    pub(super) fn with_etag(self, etag: String) -> Self {
        Self { etag: Some(etag), ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        let shown = self.file_name.map(|name| format!("inline; filename=\"{name}\""));
        if let Some(shown) = shown.and_then(|shown| HeaderValue::from_str(&shown).ok()) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, shown);
        }
        if let Some(etag) = self.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// Answers one request of the table, logs it, and gives it an id that its answer and the log share.
pub(super) async fn answer(api: Arc<Api>, route: &'static Route, request: Request) -> Response<Body> {
    let started = Instant::now();
    let request_id = uuid::Uuid::now_v7().simple().to_string();
    let caller = Arc::new(OnceLock::new());
    // A task of its own: a panic in it is an answer, and who hangs up stops nothing half-way.
    let work = tokio::spawn(work(api, route, request, caller.clone()));
    let result = work.await.unwrap_or_else(|error| Err(ApiError::internal(error.to_string())));
    let mut response = match result {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            if let Some(cause) = &error.cause {
                tracing::error!(request_id, status = error.status.as_u16(), "{cause}");
            }
            error.response(Some(&request_id))
        }
    };
    finish(&mut response, &request_id, route.method.as_str(), route.path, started, caller.get());
    response
}

/// Refuses a request that no route takes, and logs it without its address: that could hold anything.
pub(super) fn refuse(request: &Request, error: ApiError) -> Response<Body> {
    let request_id = uuid::Uuid::now_v7().simple().to_string();
    let mut response = error.response(Some(&request_id));
    // So could a method.
    let usual = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let method = usual.iter().find(|method| *method == request.method()).map_or("other", Method::as_str);
    finish(&mut response, &request_id, method, "none", Instant::now(), None);
    response
}

fn finish(
    response: &mut Response<Body>,
    request_id: &str,
    method: &str,
    route: &str,
    started: Instant,
    caller: Option<&Caller>,
) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(HeaderValue::from_str(request_id).ok().map(|id| (REQUEST_ID, id)));
    tracing::info!(
        request_id,
        method,
        route,
        status = response.status().as_u16(),
        ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        key = caller.map(|caller| caller.key_id.as_str()),
        tenant = caller.map(|caller| caller.tenant_id.as_str()),
        "answered"
    );
}

async fn work(
    api: Arc<Api>,
    route: &'static Route,
    request: Request,
    known: Arc<OnceLock<Caller>>,
) -> Result<Answer, ApiError> {
    let deadline = tokio::time::Instant::now() + api.limits.answered_within;
    let answered_within = api.limits.answered_within;
    let late = |_| ApiError::unavailable(format!("not answered within {answered_within:?}"));
    let (mut parts, body) = request.into_parts();
    let admitted = async {
        let permit = api.in_flight.clone().acquire_owned().await;
        (permit, admit(&api, route, &parts.headers).await)
    };
    let (_permit, caller) = tokio::time::timeout_at(deadline, admitted).await.map_err(late)?;
    let caller = caller?;
    let _ = known.set(caller.clone());
    let body = tokio::time::timeout_at(deadline, read_body(route.operation.takes, &parts, body))
        .await
        .map_err(|_| ApiError::too_slow())??;
    let call = Call {
        id: path_id(&mut parts).await,
        path: parts.uri.path().to_owned(),
        query: Query::read(route.operation, &caller.tenant_id, parts.uri.query().unwrap_or_default()),
        by: By { tenant_id: caller.tenant_id, actor: format!("key:{}", caller.key_id), now: api.clock.now() },
        key_id: caller.key_id,
        headers: parts.headers,
        body,
        api,
    };
    tokio::time::timeout_at(deadline, (route.operation.run)(call)).await.map_err(late)?
}

/// The answers that come before anything is read: 401, 403 for the tenant, 403 for the permission, 429.
async fn admit(api: &Api, route: &Route, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let caller = authenticate(api, headers).await?;
    if caller.read_only && route.method != Method::GET {
        return Err(ApiError::read_only());
    }
    if let Some(limiter) = &api.limiter {
        limiter.take(&caller.key_id, api.clock.now()).map_err(ApiError::rate_limited)?;
    }
    Ok(caller)
}

/// The body, if the operation takes one: 413 before 415.
async fn read_body(takes: Takes, parts: &Parts, body: Body) -> Result<Bytes, ApiError> {
    if takes == Takes::Nothing {
        return Ok(Bytes::new());
    }
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(ApiError::too_large(BODY_BYTES_MAX));
    }
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { ApiError::too_large(BODY_BYTES_MAX) } else { ApiError::broken_body() }
    })?;
    let body = body.to_bytes();
    if !body.is_empty() && !is_json(&parts.headers) {
        return Err(ApiError::not_json());
    }
    Ok(body)
}

/// Whether there is one content type, JSON, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// The id in the path, unless nothing can have it: then it is one that does not exist.
async fn path_id(parts: &mut Parts) -> Option<String> {
    let parameters = parts.extract::<RawPathParams>().await.ok()?;
    let (_, id) = parameters.iter().next()?;
    text_fault(id, ID_MAX, false).is_none().then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        let headers = |values: &[&str]| {
            let values = values.iter().map(|value| (header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap()));
            values.collect::<HeaderMap>()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/json ;x"] {
            assert!(is_json(&headers(&[good])), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonp", "application/merge-patch+json", "*/*"] {
            assert!(!is_json(&headers(&[bad])), "{bad}");
        }
        assert!(!is_json(&headers(&[])) && !is_json(&headers(&["application/json", "application/json"])));
    }
}
