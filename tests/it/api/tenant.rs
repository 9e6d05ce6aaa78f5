//! One's own settings: read, changed by the checks of an import, on record, and safe from whoever else changes them.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::api::ApiWorld;
use crate::support::{assert_verified, on_both};

const TENANT: &str = "/v1/tenant";

async fn settings(api: &ApiWorld) -> Value {
    api.get(TENANT).await.good(200)["tenant"].clone()
}

on_both! {
    async fn settings_are_changed_field_by_field_and_told_with_their_types(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let before = settings(&api).await;
        assert_eq!((&before["tenantId"], &before["currency"], &before["timeZone"]), (&json!("T"), &json!("EUR"), &json!("Europe/Berlin")));
        let body = json!({
            "tenantId": "other", "unknown": [1], "name": "Acme Rent", "vatId": "DE123456789", "paymentTermsDays": 30,
            "tax": {"mode": "exclusive", "rate": 7.5}, "billingCycle": {"fixedDay": 5}, "footer": "One\nTwo",
            "address": {"city": "Bonn", "country": "DE", "unknown": 5},
        });
        let told = api.patch(TENANT, &body).await.good(200);
        let after = told["tenant"].clone();
        assert_eq!(after, settings(&api).await);
        for (field, value) in [
            ("tenantId", json!("T")), ("name", json!("Acme Rent")), ("vatId", json!("DE123456789")), ("paymentTermsDays", json!(30)),
            ("billingCycle", json!({"fixedDay": 5})), ("footer", json!("One\nTwo")), ("address", json!({"city": "Bonn", "country": "DE"})),
            ("currency", json!("EUR")),
        ] {
            assert_eq!(after[field], value, "{field}");
        }
        assert_eq!((after["tax"]["rate"].to_string(), &after["tax"]["mode"]), ("7.5".to_owned(), &json!("exclusive")));
        // What is answered can be sent back, and changes nothing.
        let entries = api.world.db.number("select count(*) from audit_log").await;
        assert_eq!(api.patch(TENANT, &after).await.good(200)["tenant"], after);
        assert_eq!(api.world.db.number("select count(*) from audit_log").await, entries);
        let gone = api.patch(TENANT, &json!({"vatId": null, "address": {"city": null, "streetAddress": "Road 1"}, "billingCycle": "startDate"})).await;
        let gone = gone.good(200)["tenant"].clone();
        assert!(gone.get("vatId").is_none());
        assert_eq!((&gone["address"], &gone["billingCycle"]), (&json!({"country": "DE", "streetAddress": "Road 1"}), &json!("startDate")));
        assert_verified(&api.world.db).await;
    }

    async fn who_changed_which_setting_is_on_record(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.patch(TENANT, &json!({"name": "Acme Rent"})).await.good(200);
        let entry = api.get("/v1/audit-log?objectId=T").await.good(200)["auditLog"][0].clone();
        assert_eq!((&entry["action"], &entry["kind"]), (&json!("update"), &json!("tenant")));
        assert!(entry["actor"].as_str().is_some_and(|actor| actor.starts_with("key:")), "{entry}");
        assert_eq!(entry["after"], json!({"name": "Acme Rent"}));
        assert!(entry["before"]["name"].is_string() && entry["before"].as_object().is_some_and(|fields| fields.len() == 1));
    }

    async fn what_an_import_would_refuse_is_refused_and_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let before = settings(&api).await;
        for (field, value) in [
            ("currency", json!("XXQ")), ("timeZone", json!("Mars/Base")), ("name", json!("")), ("name", json!(null)),
            ("paymentTermsDays", json!(-1)), ("accentColor", json!("blue")), ("runAt", json!("25:00")),
            ("proration", json!("maybe")), ("email", json!("nobody")),
        ] {
            let told = api.patch(TENANT, &json!({ field: value, "footer": "x" })).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("{field} (invalid_value)")], "{value}");
        }
        // A file of the server is nobody's logo.
        for logo in ["/etc/passwd", "logo.png", "sha256:00"] {
            let told = api.patch(TENANT, &json!({ "logo": logo })).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), ["logo (invalid_value)"]);
        }
        let told = api.patch(TENANT, &json!({"name": 5, "tax": {"rate": "7"}, "address": {"city": {}}})).await;
        let told = told.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["address.city (invalid_type)", "name (invalid_type)", "tax.rate (invalid_type)"]);
        assert_eq!(settings(&api).await, before);
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'tenant'").await, 0);
    }

    async fn changes_of_other_fields_at_the_same_time_lose_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let wanted = [("legalName", "L"), ("vatId", "DE123456789"), ("phone", "1"), ("footer", "F")];
        let mut sent = JoinSet::new();
        for (field, value) in wanted {
            let (request, address) = (api.request("PATCH", TENANT).json(&json!({ field: value })), api.address);
            sent.spawn(async move { (field, request.send(address).await.status) });
        }
        let after_all = sent.join_all().await;
        let after = settings(&api).await;
        for (field, value) in wanted {
            let status = after_all.iter().find(|(sent, _)| *sent == field).expect("an answer").1;
            // Whoever was told to try again has changed nothing.
            assert!(status == 200 || status == 503, "{field}: {status}");
            assert_eq!(after.get(field), (status == 200).then(|| json!(value)).as_ref(), "{field}");
        }
        assert!(after_all.iter().any(|(_, status)| *status == 200));
    }
}
