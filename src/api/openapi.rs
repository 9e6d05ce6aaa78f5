//! The OpenAPI document, made from the table of routes: what is served is what is told.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{Operation, Parameter, ROUTES, Route, Takes, Versions, schemas};

/// Marks what the public service lacks.
const EXTENSION: &str = "x-billday-extension";

/// Answers of every operation.
const ALWAYS: [u16; 5] = [401, 403, 429, 500, 503];

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_lowercase()] = operation(route);
    }
    let tags: BTreeSet<&str> = ROUTES.iter().map(|route| route.operation.tag).collect();
    let schemas: Map<String, Value> = schemas().into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "billday",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Bills rented devices: one consolidated payment per billing group, on its day, exactly once. \
                            Operations, parameters and answers that the public service lacks are marked x-billday-extension.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearerAuth": []}],
        "tags": tags.iter().map(|tag| json!({"name": tag})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearerAuth": {"type": "http", "scheme": "bearer", "description": "A key made by billday key create."},
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let operation = route.operation;
    let mut shown = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters(route),
        "responses": responses(route),
    });
    if !operation.codes.is_empty() {
        shown["x-error-codes"] = json!(operation.codes);
    }
    if operation.extension {
        shown[EXTENSION] = json!(true);
    }
    let body = |schema: &str, required: bool| json!({"required": required, "content": {"application/json": {"schema": reference(schema)}}});
    match operation.takes {
        Takes::Nothing => {}
        Takes::Json(schema) => shown["requestBody"] = body(schema, true),
        Takes::JsonOrNothing(schema) => shown["requestBody"] = body(schema, false),
    }
    shown
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn parameters(route: &Route) -> Value {
    let mut parameters = Vec::new();
    if let Some(id) = route.path_parameter() {
        parameters.push(json!({"name": id, "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    let tenant = "The tenant that the request is about; the key must be one of its own.";
    parameters.push(json!({"name": "Tenant-ID", "in": "header", "required": true, "description": tenant,
                           "schema": {"type": "string"}}));
    parameters.extend(route.operation.query.iter().map(query_parameter));
    let header = |name: &str, description: &str| {
        json!({"name": name, "in": "header", "required": false, "description": description,
               "schema": {"type": "string"}, EXTENSION: true})
    };
    if route.method == Method::POST {
        let description =
            "With the same key and body within 30 days, the first answer comes again and nothing is done twice.";
        parameters.push(header("Idempotency-Key", description));
    }
    if matches!(route.operation.versions, Versions::Heeded | Versions::SentAndHeeded) {
        parameters.push(header("If-Match", "The ETag of the object that is to be changed; another version is 412."));
    }
    parameters.into()
}

fn query_parameter(parameter: &Parameter) -> Value {
    let mut schema = json!({"type": "string"});
    if !parameter.words.is_empty() {
        schema["enum"] = json!(parameter.words);
    }
    let mut shown = json!({"name": parameter.name, "in": "query", "required": false,
                           "description": parameter.description, "schema": schema});
    if parameter.extension {
        shown[EXTENSION] = json!(true);
    }
    shown
}

impl Route {
    /// The name of the id in the path.
    pub(super) fn path_parameter(&self) -> Option<&'static str> {
        let (_, rest) = self.path.split_once('{')?;
        rest.split_once('}').map(|(name, _)| name)
    }

    /// Every status that is not 2xx.
    fn refusals(&self) -> BTreeSet<u16> {
        let Operation { query, takes, codes, .. } = self.operation;
        let mut statuses = BTreeSet::from(ALWAYS);
        statuses.extend(codes.iter().map(|code| status_of(code)));
        if !query.is_empty() || *takes != Takes::Nothing {
            statuses.insert(400);
        }
        if *takes != Takes::Nothing {
            statuses.extend([408, 413, 415]);
        }
        if self.method == Method::POST {
            statuses.insert(409);
        }
        if self.path_parameter().is_some() {
            statuses.insert(404);
        }
        statuses
    }
}

/// The status with which a code is answered.
fn status_of(code: &str) -> u16 {
    match code {
        "NOT_FOUND" => 404,
        "PRECONDITION_FAILED" => 412,
        "SUBSCRIPTION_ALREADY_GROUPED" | "CUSTOMER_EXISTS" | "RUN_IN_PROGRESS" => 409,
        _ => 400,
    }
}

fn responses(route: &Route) -> Value {
    let (status, schema, description) = route.operation.gives;
    let content = match schema.starts_with("application/") {
        true => json!({schema: {"schema": {"type": "string", "contentMediaType": schema}}}),
        false => json!({"application/json": {"schema": reference(schema)}}),
    };
    let mut good = json!({"description": description, "content": content});
    if matches!(route.operation.versions, Versions::Sent | Versions::SentAndHeeded) {
        let description = "The version of the object, for If-Match.";
        good["headers"] = json!({"ETag": {"description": description, "schema": {"type": "string"}, EXTENSION: true}});
    }
    let mut responses = Map::new();
    responses.insert(status.to_string(), good);
    for status in route.refusals() {
        responses.insert(status.to_string(), refusal(status));
    }
    responses.into()
}

fn refusal(status: u16) -> Value {
    let description = match status {
        400 => "Something in the request is wrong, or the object's state forbids it.",
        401 => "AUTH_REQUIRED or INVALID_TOKEN.",
        403 => "NO_TENANT_ACCESS or INSUFFICIENT_PERMISSIONS.",
        404 => "NOT_FOUND.",
        408 => "REQUEST_TIMEOUT: the body did not arrive in time.",
        409 => "The state of another object forbids it, or IDEMPOTENCY_KEY_REUSED.",
        412 => "PRECONDITION_FAILED: the object is not of the version that If-Match names.",
        413 => "PAYLOAD_TOO_LARGE: at most 8 MiB.",
        415 => "UNSUPPORTED_MEDIA_TYPE: a body needs Content-Type application/json.",
        429 => "RATE_LIMITED: Retry-After tells in how many seconds to try again.",
        500 => "INTERNAL_ERROR: the log of the server tells more, under the requestId.",
        _ => "UNAVAILABLE: too much to do; try again.",
    };
    let mut refusal =
        json!({"description": description, "content": {"application/json": {"schema": reference("Error")}}});
    if status == 429 {
        refusal["headers"] = json!({"Retry-After": {"description": "Whole seconds.", "schema": {"type": "string"}}});
    }
    if [408, 409, 412, 413, 415, 503].contains(&status) {
        refusal[EXTENSION] = json!(true);
    }
    refusal
}

/// Shapes that belong to no single resource.
pub(super) fn common_schemas() -> Vec<(&'static str, Value)> {
    let text = json!({"type": "string"});
    vec![
        (
            "Error",
            json!({
                "type": "object",
                "required": ["error"],
                "properties": {"error": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {
                        "code": {"type": "string", "description": "A stable word for programs."},
                        "message": {"type": "string", "description": "For people."},
                        "details": {"type": "array", "maxItems": 20, "items": {
                            "type": "object",
                            "properties": {
                                "path": {"type": "string", "description": "Dotted, such as rentalIds.2 or query.limit."},
                                "message": text,
                                "code": text,
                                "billingGroupId": {"type": "string", EXTENSION: true,
                                                   "description": "The group that holds the subscription."},
                            },
                        }},
                        "requestId": {"type": "string", EXTENSION: true, "description": "Sent with status 500."},
                    },
                }},
            }),
        ),
        (
            "SuccessMessage",
            json!({"type": "object", "required": ["success", "message"],
                   "properties": {"success": {"type": "boolean", "enum": [true]}, "message": text}}),
        ),
    ]
}
