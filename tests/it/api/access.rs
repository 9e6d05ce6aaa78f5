//! Who may ask: keys, tenants, permissions, limits; and that another tenant's ids are as good as none.

use billday::api::Settings;
use serde_json::json;

use crate::support::api::{ApiWorld, KeyRights, new_group};
use crate::support::http::HttpRequest;
use crate::support::on_both;
use crate::support::world::day;

const GROUPS: &str = "/v1/billing-groups";

/// Every operation that needs a key: method, path, a body that it would take.
fn operations() -> Vec<(&'static str, &'static str, Option<serde_json::Value>)> {
    let customer = json!({"email": "n@new.example", "firstName": "N", "lastName": "N", "customerType": "individual"});
    vec![
        ("GET", GROUPS, None),
        ("POST", GROUPS, Some(new_group(json!({})))),
        ("GET", "/v1/billing-groups/{group}", None),
        ("PATCH", "/v1/billing-groups/{group}", Some(json!({"billingDay": 3}))),
        ("DELETE", "/v1/billing-groups/{group}", None),
        ("GET", "/v1/payments", None),
        ("GET", "/v1/payments/{payment}", None),
        ("POST", "/v1/payments/{payment}/mark-paid", None),
        ("POST", "/v1/payments/{payment}/cancel", Some(json!({"reason": "x"}))),
        ("GET", "/v1/customers", None),
        ("POST", "/v1/customers", Some(customer)),
        ("GET", "/v1/customers/{customer}", None),
        ("PUT", "/v1/customers/{customer}", Some(json!({"phone": "1"}))),
        ("GET", "/v1/subscriptions", None),
        ("POST", "/v1/subscriptions", Some(json!({"customerId": "C", "monthlyAmount": 1}))),
        ("GET", "/v1/subscriptions/{subscription}", None),
        ("PATCH", "/v1/subscriptions/{subscription}", Some(json!({"notes": "x"}))),
        ("POST", "/v1/subscriptions/{subscription}/cancel", Some(json!({"reason": "other"}))),
        ("GET", "/v1/billing-groups/{group}/preview", None),
        ("GET", "/v1/payments/{payment}/invoice.pdf", None),
        ("GET", "/v1/payments/{payment}/invoice.xml", None),
        ("GET", "/v1/subscriptions/{subscription}/preview", None),
        ("GET", "/v1/tenant", None),
        ("PATCH", "/v1/tenant", Some(json!({"footer": "x"}))),
        ("GET", "/v1/runs", None),
        ("POST", "/v1/runs", Some(json!({"dryRun": true}))),
        ("GET", "/v1/runs/{run}", None),
        ("GET", "/v1/outbox", None),
        ("GET", "/v1/audit-log", None),
    ]
}

/// A path with ids: those that `T` has, those that `U` has, or one that nobody has.
fn filled(path: &str, whose: &str) -> String {
    let ids = match whose {
        "T" => ["G1", "P1", "C", "R5", "RUN"],
        "U" => ["UG", "UP", "UC", "UR", "URUN"],
        nobody => [nobody; 5],
    };
    let kinds = ["{group}", "{payment}", "{customer}", "{subscription}", "{run}"];
    kinds.iter().zip(ids).fold(path.to_owned(), |path, (kind, id)| path.replace(kind, id))
}

on_both! {
    async fn the_matrix_of_operations_is_whole(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let document = HttpRequest::new("GET", "/openapi.json").send(api.address).await.good(200);
        let mut told: Vec<String> = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            let path = path.split('{').next().expect("a path");
            told.extend(item.as_object().expect("operations").keys().map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let mut known: Vec<String> =
            operations().iter().map(|(method, path, _)| format!("{method} {}", path.split('{').next().expect("a path"))).collect();
        told.sort();
        known.sort();
        assert_eq!(told, known);
    }

    async fn without_a_key_or_with_one_that_is_none_nothing_is_told(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let good = format!("Bearer {}", api.key);
        let (mut wrong_secret, mut wrong_id) = (good.clone(), good.clone());
        wrong_secret.replace_range(good.len() - 1.., if good.ends_with('x') { "y" } else { "x" });
        wrong_id.replace_range(10..18, "zzzzzzzz");
        for (method, path, body) in operations() {
            let bare = HttpRequest::new(method, &filled(path, "T")).header("Tenant-ID", "T");
            let bare = body.map_or(bare.clone(), |body| bare.json(&body));
            for authorization in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic abc"), Some(&api.key)] {
                let request = authorization.map_or(bare.clone(), |value| bare.clone().header("Authorization", value));
                let told = api.send(request).await.expect(401, "AUTH_REQUIRED");
                assert_eq!(told.header("www-authenticate"), Some("Bearer"));
            }
            for authorization in ["Bearer pk_live_1", "Bearer bw_", &wrong_secret, &wrong_id] {
                let told = api.send(bare.clone().header("Authorization", authorization)).await.expect(401, "INVALID_TOKEN");
                assert_eq!(told.header("www-authenticate"), Some("Bearer"));
            }
            let twice = bare.clone().header("Authorization", &good).header("Authorization", &good);
            api.send(twice).await.expect(401, "INVALID_TOKEN");
        }
    }

    async fn a_key_ends_with_its_last_day_or_when_it_is_revoked(db: TestDb) {
        let mut api = ApiWorld::new(db).await;
        let key = api.new_key(KeyRights { tenants: &["T"], expires_on: Some(day("2026-06-10")), ..KeyRights::default() }).await;
        let id = key[3..11].to_owned();
        api.key = key;
        api.get(GROUPS).await.good(200);
        api.world.today("2026-06-11");
        api.get(GROUPS).await.expect(401, "INVALID_TOKEN");
        api.world.today("2026-06-10");
        let revoked = api.world.db.store.with_tx(move |tx| Box::pin(async move { tx.revoke_key(&id, 5).await })).await;
        assert!(revoked.expect("a revoked key"));
        api.get(GROUPS).await.expect(401, "INVALID_TOKEN");
    }

    async fn a_tenant_that_may_not_be_asked_for_is_refused_alike_whatever_the_reason(db: TestDb) {
        let api = ApiWorld::new(db).await;
        for (method, path, body) in operations() {
            let request = api.request(method, &filled(path, "U")).without("Tenant-ID");
            let request = body.map_or(request.clone(), |body| request.json(&body));
            let mut bodies = Vec::new();
            // None, empty, unknown, another's, one's own twice, one's own with something more.
            for tenants in [vec![], vec![""], vec!["nobody"], vec!["U"], vec!["T", "T"], vec!["T,U"], vec!["t"], vec!["T\u{e9}"]] {
                let request = tenants.iter().fold(request.clone(), |request, tenant| request.header("Tenant-ID", tenant));
                bodies.push(api.send(request).await.expect(403, "NO_TENANT_ACCESS").body);
            }
            bodies.dedup();
            assert_eq!(bodies.len(), 1, "{bodies:?}");
        }
    }

    async fn a_key_may_act_for_each_of_its_tenants_and_a_reading_one_changes_nothing(db: TestDb) {
        let mut api = ApiWorld::new(db).await;
        api.key = api.new_key(KeyRights { tenants: &["T", "U"], read_only: true, ..KeyRights::default() }).await;
        for (method, path, body) in operations() {
            let request = api.request(method, &filled(path, "T"));
            let request = body.map_or(request.clone(), |body| request.json(&body));
            let reply = api.send(request).await;
            // P1 was brought in by an import, so its invoice is elsewhere.
            if path.contains("/invoice.") { reply.expect(404, "NOT_FOUND"); }
            else if method == "GET" { reply.good(200); } else { reply.expect(403, "INSUFFICIENT_PERMISSIONS"); }
        }
        let other = api.request("GET", "/v1/billing-groups/UG").without("Tenant-ID").header("Tenant-ID", "U");
        api.send(other).await.good(200);
        // Permission comes before the body is looked at.
        api.send(api.request("POST", GROUPS).body("{")).await.expect(403, "INSUFFICIENT_PERMISSIONS");
    }

    async fn another_tenants_ids_are_as_good_as_none_byte_for_byte(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let same = async |foreign: HttpRequest, none: HttpRequest, ids: &[(&str, &str)]| {
            let (mut foreign, none) = (api.send(foreign).await, api.send(none).await);
            for (theirs, nobodys) in ids {
                foreign.body = foreign.body.replace(theirs, nobodys);
            }
            assert_eq!((foreign.status, &foreign.body), (none.status, &none.body));
            let names = |reply: &crate::support::http::Reply| {
                let told = reply.headers.iter().filter(|(name, _)| name != "x-request-id" && name != "date");
                told.cloned().collect::<Vec<_>>()
            };
            assert_eq!(names(&foreign), names(&none));
        };
        // In a path.
        for (method, path, body) in operations().into_iter().filter(|(_, path, _)| path.contains('{')) {
            let request = |whose: &str| {
                let request = api.request(method, &filled(path, whose));
                body.as_ref().map_or(request.clone(), |body| request.json(body))
            };
            same(request("U"), request("none"), &[]).await;
            same(request("U").header("If-Match", "\"1\""), request("none").header("If-Match", "\"1\""), &[]).await;
        }
        // In a body.
        let pairs: &[(&str, &str)] = &[("UC", "nC"), ("UR", "nR")];
        for (theirs, nobodys) in [
            (json!({"customerId": "UC"}), json!({"customerId": "nC"})),
            (json!({"rentalIds": ["R3", "UR"]}), json!({"rentalIds": ["R3", "nR"]})),
        ] {
            let request = |with| api.request("POST", GROUPS).json(&new_group(with));
            same(request(theirs), request(nobodys), pairs).await;
        }
        for (theirs, nobodys) in [
            (json!({"customerId": "UC"}), json!({"customerId": "nC"})),
            (json!({"rentalIds": ["UR"]}), json!({"rentalIds": ["nR"]})),
        ] {
            let request = |body| api.request("PATCH", "/v1/billing-groups/G1").json(&body);
            same(request(theirs), request(nobodys), pairs).await;
        }
        let pairs: &[(&str, &str)] = &[("UC", "nC"), ("UG", "nG")];
        for (method, path) in [("POST", "/v1/subscriptions"), ("PATCH", "/v1/subscriptions/R5")] {
            let request = |with: (&str, &str)| {
                let mut body = json!({"customerId": "C", "monthlyAmount": 1});
                body[with.0] = with.1.into();
                api.request(method, path).json(&body)
            };
            same(request(("billingGroupId", "UG")), request(("billingGroupId", "nG")), pairs).await;
            same(request(("customerId", "UC")), request(("customerId", "nC")), pairs).await;
        }
        // An e-mail that only another tenant's customer has is free.
        api.world.db.execute("update customers set email = 'free@u.example' where tenant_id = 'U'").await;
        api.put("/v1/customers/C", &json!({"email": "free@u.example"})).await.good(200);
        // As a filter, and as a cursor of the other's list.
        let request = |target: &str| api.request("GET", target);
        same(request("/v1/billing-groups?customerId=UC"), request("/v1/billing-groups?customerId=none"), &[]).await;
        for (list, filter, id) in [
            ("payments", "customerId", "UC"), ("payments", "rentalId", "UR"), ("payments", "billingGroupId", "UG"),
            ("subscriptions", "customerId", "UC"), ("subscriptions", "orderId", "UO"), ("subscriptions", "serialNumber", "US"),
            ("customers", "email", "pay@umbrella.example"),
        ] {
            let target = |id: &str| request(&format!("/v1/{list}?{filter}={id}"));
            same(target(id), target("none"), &[]).await;
        }
        same(request("/v1/outbox?paymentId=UP"), request("/v1/outbox?paymentId=none"), &[]).await;
        same(request("/v1/audit-log?objectId=UG"), request("/v1/audit-log?objectId=none"), &[]).await;
        let key = api.new_key(KeyRights { tenants: &["T", "U"], ..KeyRights::default() }).await;
        for tenant in ["T", "U"] {
            api.world.import(json!([{"tenantId": tenant, "billingGroupId": "last", "customerId": if tenant == "T" { "C" } else { "UC" },
                                     "billingDay": 1, "createdAt": "2020-01-01T00:00:00Z"}])).await;
        }
        let list = |tenant: &str, target: &str| {
            HttpRequest::new("GET", target).header("Authorization", &format!("Bearer {key}")).header("Tenant-ID", tenant)
        };
        let page = api.send(list("U", "/v1/billing-groups?limit=1")).await.good(200);
        let next = format!("/v1/billing-groups?limit=1&startAfter={}", page["nextCursor"].as_str().expect("a cursor"));
        api.send(list("U", &next)).await.good(200);
        let told = api.send(list("T", &next)).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["query.startAfter (invalid_cursor)"]);
    }

    async fn answers_come_in_their_order(db: TestDb) {
        let api = ApiWorld::new(db).await;
        // Unknown places and methods come before the key.
        let told = HttpRequest::new("GET", "/v1/nothing").send(api.address).await.expect(404, "NOT_FOUND");
        assert!(told.header("x-request-id").is_some(), "{}", told.body);
        HttpRequest::new("GET", "/v1/billing-groups/").send(api.address).await.expect(404, "NOT_FOUND");
        let told = HttpRequest::new("PUT", GROUPS).send(api.address).await.expect(405, "METHOD_NOT_ALLOWED");
        assert_eq!(told.header("allow"), Some("GET,HEAD,POST"));
        let told = HttpRequest::new("POST", "/v1/billing-groups/G1").send(api.address).await.expect(405, "METHOD_NOT_ALLOWED");
        assert_eq!(told.header("allow"), Some("GET,HEAD,PATCH,DELETE"));
        // The key before the tenant, the tenant before the body's size, its size before its type, its type before its content.
        let large = vec![b' '; 8 * 1024 * 1024 + 1];
        let request = HttpRequest::new("POST", GROUPS).body(large.clone());
        request.clone().send(api.address).await.expect(401, "AUTH_REQUIRED");
        request.header("Authorization", &format!("Bearer {}", api.key)).send(api.address).await.expect(403, "NO_TENANT_ACCESS");
        api.send(api.request("POST", GROUPS).body(large.clone())).await.expect(413, "PAYLOAD_TOO_LARGE");
        let chunked = [format!("{:x}\r\n", large.len()).as_bytes(), &large, b"\r\n0\r\n\r\n"].concat();
        let chunked = api.request("POST", GROUPS).header("Transfer-Encoding", "chunked").body(chunked);
        api.send(chunked).await.expect(413, "PAYLOAD_TOO_LARGE");
        api.send(api.request("POST", GROUPS).body("{")).await.expect(415, "UNSUPPORTED_MEDIA_TYPE");
        let text = api.request("PATCH", "/v1/billing-groups/none").header("Content-Type", "text/plain").body("{}");
        api.send(text).await.expect(415, "UNSUPPORTED_MEDIA_TYPE");
        // Shapes before the id in the path, that before ids in the body.
        api.patch("/v1/billing-groups/none", &json!({"billingDay": 99})).await.expect(400, "INVALID_BILLING_DAY");
        api.patch("/v1/billing-groups/none", &json!({"rentalIds": ["none"]})).await.expect(404, "NOT_FOUND");
        for id in ["%00", "%ff", "a%0Ab", &"x".repeat(129)] {
            api.get(&format!("/v1/billing-groups/{id}")).await.expect(404, "NOT_FOUND");
        }
        // A stale version after ids in the body, before what the state forbids.
        let stale = |body| api.request("PATCH", "/v1/billing-groups/G1").header("If-Match", "\"1\"").json(&body);
        api.send(stale(json!({"rentalIds": ["none"]}))).await.expect(400, "SUBSCRIPTION_NOT_FOUND");
        api.send(stale(json!({"rentalIds": ["X"]}))).await.expect(412, "PRECONDITION_FAILED");
    }

    async fn a_key_that_asks_too_often_is_told_when_to_come_again(db: TestDb) {
        let api = ApiWorld::with_settings(db, Settings { requests_per_minute: Some(3), ..Settings::default() }).await;
        for _ in 0..3 {
            api.get(GROUPS).await.good(200);
        }
        let told = api.get(GROUPS).await.expect(429, "RATE_LIMITED");
        let seconds: i64 = told.header("retry-after").expect("a time").parse().expect("whole seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
        // Before the body, after the tenant.
        api.send(api.request("POST", GROUPS).body("{")).await.expect(429, "RATE_LIMITED");
        api.send(api.request("GET", GROUPS).without("Tenant-ID")).await.expect(403, "NO_TENANT_ACCESS");
        api.world.today("2026-06-11");
        api.get(GROUPS).await.good(200);
    }

    async fn health_and_descriptions_need_no_key(db: TestDb) {
        let api = ApiWorld::new(db).await;
        for (path, kind) in [("/livez", "application/json"), ("/readyz", "application/json"), ("/openapi.json", "application/json"),
                             ("/docs", "text/html; charset=utf-8")] {
            let reply = HttpRequest::new("GET", path).send(api.address).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)), "{path}");
        }
        api.world.db.execute("update tenants set time_zone = 'Mars/Base' where tenant_id = 'T'").await;
        let told = HttpRequest::new("GET", "/readyz").send(api.address).await;
        assert_eq!((told.status, &told.json()["ready"]), (503, &json!(false)));
        assert!(told.body.contains("1 tenant has settings that cannot be read") && !told.body.contains("Mars"), "{}", told.body);
    }
}
