//! The document that is served agrees with the public contract on everything that the contract names.
//!
//! `contract.json` holds the contract's names, types, bounds and statuses, without its prose.

use serde_json::{Value, json};

use crate::support::api::ApiWorld;
use crate::support::on_both;

const EXTENSION: &str = "x-billday-extension";

fn contract() -> Value {
    serde_json::from_str(include_str!("contract.json")).expect("the contract")
}

/// A value with what its `$ref` names in its place.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        None => value,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference into the document");
            resolved(document, document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
    }
}

/// Who writes a value.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    /// The client.
    Taken,
    /// The server.
    Sent,
}

/// Operations that the public service lacks or makes otherwise, though its contract has their place: their bodies are ours.
const OURS: [&str; 2] = ["createSubscription", "createCustomer"];

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Fails where a schema of ours lacks something that the contract's has, or has something more without saying so.
fn agree(direction: Direction, place: &str, theirs: (&Value, &Value), ours: (&Value, &Value)) {
    let their_schema = resolved(theirs.0, theirs.1);
    let our_schema = resolved(ours.0, ours.1);
    let types =
        |schema: &Value| if schema["type"].is_array() { list(&schema["type"]) } else { vec![schema["type"].clone()] };
    for kind in types(their_schema).into_iter().filter(Value::is_string) {
        assert!(types(our_schema).contains(&kind), "{place}: type {kind}");
    }
    for bound in ["minimum", "maximum", "minLength", "minItems", "enum", "default"] {
        if let Some(value) = their_schema.get(bound) {
            assert_eq!(our_schema.get(bound), Some(value), "{place}: {bound}");
        }
    }
    let required = |schema: &Value| {
        let mut names: Vec<String> = list(&schema["required"]).iter().map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(required(our_schema), required(their_schema), "{place}: required");
    if their_schema.get("items").is_some() {
        agree(direction, &format!("{place}[]"), (theirs.0, &their_schema["items"]), (ours.0, &our_schema["items"]));
    }
    for (name, schema) in their_schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let Some(our_field) = our_schema["properties"].get(name) else {
            // A field that the contract lets out need not be told of, where it is never sent.
            let optional = !list(&their_schema["required"]).contains(&json!(name));
            assert!(direction == Direction::Sent && optional, "{place} is missing");
            continue;
        };
        agree(direction, &place, (theirs.0, schema), (ours.0, our_field));
    }
    for (name, schema) in our_schema["properties"].as_object().into_iter().flatten() {
        let known = their_schema["properties"].get(name).is_some();
        assert!(known || schema[EXTENSION] == true, "{place}.{name} is an extension and not marked");
    }
}

fn parameters<'a>(document: &'a Value, item: &'a Value, operation: &'a Value) -> Vec<&'a Value> {
    let all = [&item["parameters"], &operation["parameters"]];
    all.into_iter().filter_map(Value::as_array).flatten().map(|parameter| resolved(document, parameter)).collect()
}

fn body<'a>(document: &'a Value, holder: &'a Value) -> &'a Value {
    &resolved(document, holder)["content"]["application/json"]["schema"]
}

fn compare_operation(place: &str, theirs: (&Value, &Value, &Value), ours: (&Value, &Value, &Value)) {
    let (their_document, their_item, their_operation) = theirs;
    let (our_document, our_item, our_operation) = ours;
    assert_eq!(our_operation["operationId"], their_operation["operationId"], "{place}");
    assert_eq!(our_operation["tags"], their_operation["tags"], "{place}");
    let ours_alone = OURS.iter().any(|id| our_operation["operationId"] == *id);
    assert_eq!(our_operation[EXTENSION] == true, ours_alone, "{place}: whether it is marked as an extension");
    let theirs = parameters(their_document, their_item, their_operation);
    let ours = parameters(our_document, our_item, our_operation);
    let same = |a: &Value, b: &Value| a["name"] == b["name"] && a["in"] == b["in"];
    for parameter in &theirs {
        let our_parameter = ours.iter().find(|ours| same(ours, parameter));
        let our_parameter = our_parameter.unwrap_or_else(|| panic!("{place}: {} is missing", parameter["name"]));
        assert_eq!(our_parameter["required"], parameter["required"], "{place}: {}", parameter["name"]);
    }
    for parameter in &ours {
        let known = theirs.iter().any(|theirs| same(theirs, parameter));
        assert!(known || parameter[EXTENSION] == true, "{place}: {} is not marked", parameter["name"]);
    }
    let their_body = &their_operation["requestBody"];
    assert_eq!(our_operation.get("requestBody").is_some(), !their_body.is_null(), "{place}: body");
    if !their_body.is_null() && !ours_alone {
        let our_body = &our_operation["requestBody"];
        assert_eq!(our_body["required"], their_body["required"], "{place}: whether the body is required");
        agree(
            Direction::Taken,
            place,
            (their_document, body(their_document, their_body)),
            (our_document, body(our_document, our_body)),
        );
    }
    for (status, response) in their_operation["responses"].as_object().expect("responses") {
        let place = format!("{place} {status}");
        let our_response = our_operation["responses"].get(status).unwrap_or_else(|| panic!("{place} is missing"));
        let schemas = (body(their_document, response), body(our_document, our_response));
        agree(Direction::Sent, &place, (their_document, schemas.0), (our_document, schemas.1));
    }
    for (status, response) in our_operation["responses"].as_object().expect("responses") {
        let known = their_operation["responses"].get(status).is_some();
        assert!(known || response[EXTENSION] == true, "{place}: {status} is not marked");
    }
}

on_both! {
    async fn what_is_served_agrees_with_the_contract_and_marks_what_is_more(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let ours = crate::support::http::HttpRequest::new("GET", "/openapi.json").send(api.address).await.good(200);
        let theirs = contract();
        let mut compared = 0;
        for (path, item) in ours["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let place = format!("{method} {path}");
                let (their_item, nothing) = (&theirs["paths"][path], Value::Null);
                match their_item.get(method) {
                    Some(their_operation) => {
                        let theirs = (&theirs, their_item, their_operation);
                        compare_operation(&place, theirs, (&ours, &nothing, operation));
                        compared += 1;
                    }
                    None => assert_eq!(operation[EXTENSION], true, "{place} is an extension and not marked"),
                }
            }
        }
        let all = theirs["paths"].as_object().expect("paths").values().map(|item| {
            item.as_object().expect("operations").keys().filter(|method| *method != "parameters").count()
        });
        assert_eq!(compared, all.sum::<usize>(), "every operation of the contract is served");
        assert_eq!(ours["openapi"], "3.1.0");
    }

    async fn every_answer_has_the_shape_that_the_document_tells(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let document = crate::support::http::HttpRequest::new("GET", "/openapi.json").send(api.address).await.good(200);
        let schema = |name: &str| document["components"]["schemas"][name].clone();
        let created = api.post("/v1/billing-groups", &crate::support::api::new_group(json!({"notes": "x"}))).await.good(201);
        let listed = api.get("/v1/billing-groups").await.good(200);
        let audit = api.get("/v1/audit-log").await.good(200);
        let refused = api.post("/v1/billing-groups", &json!({})).await.json();
        let address = json!({"contactName": "A", "streetAddress": "S 1", "city": "B", "country": "DE", "postalCode": null});
        let customer = json!({"email": "a@b.example", "firstName": "A", "lastName": "B", "customerType": "business", "phone": "1",
            "company": "C", "billingAddress": address, "shippingAddress": address, "vatId": "DE1", "paymentTermsDays": 7,
            "taxTreatment": "exempt", "locale": "de", "billingEmail": "c@b.example", "buyerReference": "X", "eInvoice": "none"});
        let customer = api.post("/v1/customers", &customer).await.good(201);
        let customers = api.get("/v1/customers").await.good(200);
        let rental = json!({"customerId": "C", "monthlyAmount": 5, "notes": "n", "endDate": "2027-01-01", "billingGroupId": "G1"});
        let rental = api.post("/v1/subscriptions", &rental).await.good(201);
        let path = format!("/v1/subscriptions/{}/cancel", rental["rentalId"].as_str().expect("an id"));
        let cancelled = api.post(&path, &json!({"reason": "fraud", "notes": "n"})).await.good(200);
        let rentals = api.get("/v1/subscriptions").await.good(200);
        api.world.run_later("2026-06-10").await;
        api.world.run_later("2026-06-01").await;
        let paid = api.post("/v1/payments/P1/mark-paid", &json!({"reference": "r", "notes": "n"})).await.good(200);
        let payments = api.get("/v1/payments").await.good(200);
        let preview = api.get("/v1/billing-groups/G1/preview").await.good(200);
        let no_preview = api.get("/v1/billing-groups/G1/preview?date=2026-06-14").await.good(200);
        let settings = api.get("/v1/tenant").await.good(200);
        let changed = api.patch("/v1/tenant", &json!({"address": {"city": "Bonn"}, "footer": "x"})).await.good(200);
        let started = api.post("/v1/runs", &json!({"dryRun": true})).await.good(202);
        let dry = api.get(&format!("/v1/runs/{}", started["runId"].as_str().expect("an id"))).await.good(200);
        let run = api.get("/v1/runs/RUN").await.good(200);
        let runs = api.get("/v1/runs").await.good(200);
        let mails = api.get("/v1/outbox").await.good(200);
        for (name, value) in
            [("PreviewRead", preview), ("PreviewRead", no_preview), ("TenantRead", settings), ("TenantWritten", changed),
             ("RunStarted", started), ("RunRead", dry), ("RunRead", run), ("RunList", runs), ("OutboxList", mails),
             ("BillingGroupWritten", created), ("BillingGroupList", listed), ("AuditLogList", audit), ("Error", refused),
             ("CustomerWritten", customer), ("CustomerList", customers), ("RentalWritten", rental), ("RentalCancelled", cancelled),
             ("RentalList", rentals), ("PaymentWritten", paid), ("PaymentList", payments)]
        {
            fits(name, &document, &schema(name), &value);
        }
    }
}

/// A value has what its schema requires, nothing that the schema does not know, and the types it tells.
fn fits(place: &str, document: &Value, schema: &Value, value: &Value) {
    let schema = resolved(document, schema);
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = if schema["type"].is_array() { list(&schema["type"]) } else { vec![schema["type"].clone()] };
    let fitting = types.iter().any(|t| t == kind || (t == "number" && kind == "integer"));
    assert!(fitting, "{place}: {value} is no {types:?}");
    for name in list(&schema["required"]) {
        assert!(value.get(name.as_str().expect("a name")).is_some(), "{place}: {name} is missing in {value}");
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, field) in fields {
            let known = properties.get(name).unwrap_or_else(|| panic!("{place}.{name} is not told of"));
            fits(&format!("{place}.{name}"), document, known, field);
        }
    }
    for item in list(value) {
        fits(&format!("{place}[]"), document, &schema["items"], &item);
    }
}
