//! The page at `/docs`: the OpenAPI document for people, whole in one file.

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Value, json};

/// Renders the document.
pub(super) fn page(document: &Value) -> String {
    let mut environment = Environment::new();
    // The name's end turns escaping on.
    let rendered = environment
        .add_template("docs.html", include_str!("docs.html"))
        .and_then(|()| environment.get_template("docs.html"))
        .and_then(|template| {
            template.render(context! {
                api => Serde(document),
                operations => Serde(operations(document)),
                schemas => Serde(schemas(document)),
            })
        });
    rendered.unwrap_or_else(|error| {
        tracing::error!("the page of the API cannot be rendered: {error}");
        "see /openapi.json".to_owned()
    })
}

/// The operations in the order in which people look for them, each with its method and path.
fn operations(document: &Value) -> Vec<Value> {
    const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            METHODS.iter().filter_map(move |method| {
                let mut operation = item.get(method)?.clone();
                operation["method"] = json!(method.to_uppercase());
                operation["path"] = json!(path);
                operation["takes"] = named_schema(&operation["requestBody"]);
                let responses = operation["responses"].as_object().into_iter().flatten();
                operation["answers"] = responses
                    .map(|(status, response)| {
                        json!({"status": status, "description": response["description"], "schema": named_schema(response)})
                    })
                    .collect();
                Some(operation)
            })
        })
        .collect()
}

fn named_schema(holder: &Value) -> Value {
    let reference = holder["content"]["application/json"]["schema"]["$ref"].as_str();
    json!(reference.and_then(|reference| reference.rsplit('/').next()))
}

/// The schemas, each with its fields as rows of a table.
fn schemas(document: &Value) -> Vec<Value> {
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    schemas
        .map(|(name, schema)| {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let properties = schema["properties"].as_object().into_iter().flatten();
            let fields: Vec<Value> = properties
                .map(|(field, of)| {
                    json!({"name": field, "required": required.contains(&json!(field)), "type": kind(of),
                           "description": of["description"], "extension": of["x-billday-extension"]})
                })
                .collect();
            let example = schema.get("example").and_then(|example| serde_json::to_string_pretty(example).ok());
            json!({"name": name, "fields": fields, "description": schema["description"], "example": example})
        })
        .collect()
}

/// A schema in a few words: `integer 1–28`, `list of string`.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words
            .iter()
            .map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" | ");
    }
    let named = match &schema["type"] {
        Value::String(one) if one == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(one) => one.clone(),
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "object".to_owned(),
    };
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!("{named} {least}–{most}"),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_schema_and_needs_nothing_from_outside() {
        let document = super::super::openapi::document();
        let page = page(&document);
        for route in &super::super::ROUTES {
            assert!(page.contains(&format!("id=\"{}\"", route.operation.id)), "{}", route.operation.id);
        }
        for (name, _) in super::super::schemas() {
            assert!(page.contains(&format!("id=\"schema-{name}\"")), "{name}");
        }
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    }
}
