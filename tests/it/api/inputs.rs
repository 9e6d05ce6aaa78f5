//! What a body may hold: every field of every body, missing, null, of other types, at its bounds and beyond.

use serde_json::{Value, json};

use crate::support::api::{ApiWorld, new_group};
use crate::support::http::Reply;
use crate::support::on_both;

const GROUPS: &str = "/v1/billing-groups";
const G1: &str = "/v1/billing-groups/G1";

/// A body with one field's text as it stands, so that what no JSON library writes can be sent.
fn with_raw(mut body: Value, field: &str, raw: &str) -> String {
    body[field] = json!("\u{1}");
    body.to_string().replace("\"\\u0001\"", raw)
}

async fn send_raw(api: &ApiWorld, method: &str, target: &str, body: impl Into<Vec<u8>>) -> Reply {
    api.send(api.request(method, target).header("Content-Type", "application/json; charset=utf-8").body(body)).await
}

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A text of 1 to so many characters.
    Text(usize),
    /// The same, where an empty one is as good as absent.
    TextOrEmpty(usize),
    /// The same as a name: not only white space.
    Name,
    /// A text with lines; `true` where null removes it.
    Lines(bool),
    /// A text with lines that must say something.
    Reason,
    BillingDay,
    RentalIds,
    Word,
    Email,
    Amount,
    /// A day or an instant; `true` where an empty one is as good as absent.
    Time(bool),
    Months,
    Terms,
    Address,
    Flag,
    Number,
    /// A text with lines or an object.
    AnyAddress,
    /// An object, never a text.
    Parts,
}

/// A field of a body: what it takes, and whether null removes what is there.
type Field = (&'static str, Kind, bool);

/// What is wrong with a field that holds each of these: raw text and the code of the detail.
fn faults((_, kind, removable): Field) -> Vec<(String, &'static str)> {
    let text = |length: usize| format!("\"{}\"", "ä".repeat(length));
    let of_type = |others: &[&'static str]| others.iter().map(|raw| (String::from(*raw), "invalid_type")).collect();
    let not_text = ["5", "1e400", "true", "[]", "{}"];
    let mut faults: Vec<(String, &'static str)> = match kind {
        Kind::Text(most) | Kind::TextOrEmpty(most) => {
            let mut faults: Vec<(String, &'static str)> = of_type(&not_text);
            faults.extend([(text(most + 1), "too_big"), (text(1024 * 1024), "too_big")]);
            faults.extend((kind == Kind::Text(most)).then(|| ("\"\"".into(), "too_small")));
            faults.push(("\"a\\nb\"".into(), "invalid_string"));
            faults
        }
        Kind::Name => {
            let mut faults: Vec<(String, &'static str)> = of_type(&not_text);
            faults.extend([
                (text(201), "too_big"),
                ("\"\"".into(), "too_small"),
                ("\" \\u2003 \"".into(), "too_small"),
            ]);
            faults.push(("\"a\\nb\"".into(), "invalid_string"));
            faults
        }
        Kind::Lines(_) | Kind::Reason => {
            let mut faults: Vec<(String, &'static str)> = of_type(&["5", "false", "[]", "{}"]);
            faults.extend([(text(2001), "too_big"), ("\"a\\rb\"".into(), "invalid_string")]);
            faults.extend((kind == Kind::Reason).then(|| ("\"\"".into(), "too_small")));
            faults
        }
        Kind::BillingDay => {
            let bad = [
                "0",
                "29",
                "15.5",
                "-1",
                "1e400",
                "1e-400",
                "99999999999999999999",
                "\"15\"",
                "true",
                "[]",
                "{}",
                "15.0000001",
            ];
            bad.map(|raw| (raw.to_owned(), "invalid_billing_day")).into()
        }
        Kind::RentalIds => {
            let many = serde_json::to_string(&vec!["R3"; 100_001]).expect("JSON");
            let mut faults: Vec<(String, &'static str)> = of_type(&["5", "\"R3\"", "{}", "true"]);
            faults.push((many, "too_big"));
            faults
        }
        Kind::Word => {
            let mut faults: Vec<(String, &'static str)> = of_type(&["1", "[]", "{}", "true"]);
            faults.extend(["\"paused\"", "\"Active\"", "\"\""].map(|raw| (raw.to_owned(), "invalid_enum")));
            faults
        }
        Kind::Email => {
            let mut faults: Vec<(String, &'static str)> = of_type(&not_text);
            faults.push((format!("\"{}@a.example\"", "a".repeat(250)), "too_big"));
            faults.push(("\"\"".into(), "too_small"));
            faults.extend(
                ["\"a\"", "\"@a\"", "\"a@\"", "\"a@b@c\"", "\"a b@c\"", "\"a@b\\nc\""]
                    .map(|raw| (raw.to_owned(), "invalid_string")),
            );
            faults
        }
        Kind::Amount => {
            let mut faults: Vec<(String, &'static str)> = of_type(&["\"5\"", "true", "[]", "{}"]);
            faults.extend(["5.001", "1e-3", "0.00001"].map(|raw| (raw.to_owned(), "invalid_number")));
            faults.extend(["-1", "-0.01", "-5e2"].map(|raw| (raw.to_owned(), "too_small")));
            faults.extend(
                ["1000000000000", "1e12", "1e400", "99999999999999999999"].map(|raw| (raw.to_owned(), "too_big")),
            );
            faults
        }
        Kind::Time(_) => {
            let mut faults: Vec<(String, &'static str)> = of_type(&not_text);
            let bad = [
                "yesterday",
                "2026-02-30",
                "2026-2-3",
                "01/02/2026",
                "2026-02-03T25:00:00Z",
                "20260203",
                " 2026-02-03",
            ];
            faults.extend(bad.map(|text| (format!("\"{text}\""), "invalid_date")));
            faults.extend((kind == Kind::Time(false)).then(|| ("\"\"".into(), "too_small")));
            faults
        }
        Kind::Months => {
            let mut faults: Vec<(String, &'static str)> = of_type(&["\"12\"", "true", "[]", "{}"]);
            faults.extend(
                ["-1", "121", "1.5", "1e400", "99999999999999999999"].map(|raw| (raw.to_owned(), "invalid_number")),
            );
            faults
        }
        Kind::Terms => {
            let mut faults: Vec<(String, &'static str)> = of_type(&["\"14\"", "true", "[]", "{}"]);
            faults.extend(["-7", "1", "15", "14.5", "31"].map(|raw| (raw.to_owned(), "invalid_number")));
            faults
        }
        Kind::Address => of_type(&["5", "\"Street 1\"", "true", "[]"]),
        Kind::Flag => of_type(&["5", "\"true\"", "{}", "[]"]),
        Kind::Number => of_type(&["\"5\"", "true", "{}", "[]"]),
        Kind::AnyAddress => of_type(&["5", "true", "[]"]),
        Kind::Parts => of_type(&["5", "\"net\"", "true", "[]"]),
    };
    if let Kind::Text(_) | Kind::TextOrEmpty(_) | Kind::Name | Kind::Lines(_) | Kind::Reason = kind {
        faults.push(("\"a\\u0000b\"".into(), "invalid_string"));
        faults.push(("\"a\\u009fb\"".into(), "invalid_string"));
    }
    if !removable {
        faults.push(("null".into(), "invalid_type"));
    }
    faults
}

/// A customer that can be created.
fn new_customer() -> Value {
    json!({"email": "n@new.example", "firstName": "N", "lastName": "N", "customerType": "individual"})
}

/// Every body that the API takes, with its fields.
fn bodies() -> Vec<(&'static str, &'static str, Value, Vec<Field>)> {
    use Kind::{
        Address, Amount, AnyAddress, BillingDay, Email, Flag, Lines, Months, Name, Number, Parts, Reason, RentalIds,
        Terms, Text, TextOrEmpty, Time, Word,
    };
    let customer = |more: &[Field]| {
        let mut fields = vec![
            ("email", Email, false),
            ("firstName", Text(255), false),
            ("lastName", Text(255), false),
            ("company", TextOrEmpty(255), true),
            ("phone", TextOrEmpty(255), true),
            ("customerType", Word, false),
            ("status", Word, false),
            ("billingAddress", Address, true),
            ("shippingAddress", Address, true),
            ("vatId", Text(255), true),
            ("paymentTermsDays", Terms, true),
            ("taxTreatment", Word, true),
            ("locale", Text(255), true),
            ("billingEmail", Email, true),
            ("buyerReference", Text(255), true),
            ("registration", Text(255), true),
            ("eInvoice", Word, true),
        ];
        fields.extend(more);
        fields
    };
    vec![
        (
            "POST",
            GROUPS,
            new_group(json!({"notes": "x"})),
            vec![
                ("customerId", Text(128), false),
                ("groupName", Name, false),
                ("notes", Lines(true), true),
                ("billingDay", BillingDay, false),
                ("rentalIds", RentalIds, false),
            ],
        ),
        (
            "PATCH",
            G1,
            json!({"notes": "x"}),
            vec![
                ("customerId", Text(128), false),
                ("groupName", Name, false),
                ("notes", Lines(true), true),
                ("billingDay", BillingDay, false),
                ("rentalIds", RentalIds, false),
                ("status", Word, false),
            ],
        ),
        (
            "POST",
            "/v1/payments/P1/mark-paid",
            json!({}),
            vec![
                ("paymentReference", TextOrEmpty(255), false),
                ("reference", TextOrEmpty(255), false),
                ("notes", Lines(false), false),
                ("paidAt", Time(false), false),
            ],
        ),
        ("POST", "/v1/payments/P1/cancel", json!({}), vec![("reason", Reason, false)]),
        ("POST", "/v1/customers", new_customer(), customer(&[])),
        ("PUT", "/v1/customers/C", json!({}), customer(&[("customerId", Text(128), false)])),
        (
            "POST",
            "/v1/subscriptions",
            json!({"customerId": "C", "monthlyAmount": 5}),
            vec![
                ("customerId", Text(128), false),
                ("monthlyAmount", Amount, false),
                ("startDate", Time(true), false),
                ("endDate", Time(true), false),
                ("contractLength", Months, false),
                ("productName", TextOrEmpty(255), false),
                ("assetSerialNumber", TextOrEmpty(255), false),
                ("serialNumber", TextOrEmpty(255), false),
                ("sku", TextOrEmpty(255), false),
                ("orderId", TextOrEmpty(128), false),
                ("billingGroupId", TextOrEmpty(128), false),
                ("notes", Lines(false), false),
            ],
        ),
        (
            "PATCH",
            "/v1/subscriptions/R5",
            json!({}),
            vec![
                ("customerId", Text(128), false),
                ("monthlyAmount", Amount, false),
                ("endDate", Time(true), true),
                ("contractLength", Months, true),
                ("productName", TextOrEmpty(255), false),
                ("assetSerialNumber", TextOrEmpty(255), false),
                ("serialNumber", TextOrEmpty(255), false),
                ("billingGroupId", TextOrEmpty(128), true),
                ("notes", Lines(true), true),
            ],
        ),
        (
            "POST",
            "/v1/subscriptions/R5/cancel",
            json!({"reason": "other"}),
            vec![("reason", Word, false), ("notes", Lines(false), false), ("rentalId", Text(128), false)],
        ),
        ("POST", "/v1/runs", json!({"dryRun": false}), vec![("dryRun", Flag, false), ("runDate", Time(false), false)]),
        (
            "PATCH",
            "/v1/tenant",
            json!({}),
            vec![
                ("legalName", TextOrEmpty(2000), true),
                ("vatId", TextOrEmpty(2000), true),
                ("paymentTermsDays", Number, true),
                ("maxArrears", Number, true),
                ("address", AnyAddress, true),
                ("tax", Parts, true),
            ],
        ),
    ]
}

/// What the fields of bodies can change, as the API shows it.
async fn everything(api: &ApiWorld) -> String {
    let mut shown = String::new();
    for list in ["billing-groups", "payments", "customers", "subscriptions"] {
        shown.push_str(&api.get(&format!("/v1/{list}?limit=100")).await.body);
    }
    shown.push_str(&api.get("/v1/tenant").await.body);
    shown.push_str(&api.get("/v1/runs").await.body);
    shown
}

on_both! {
    async fn every_wrong_value_of_every_field_is_named_and_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let before = everything(&api).await;
        for (method, target, base, fields) in bodies() {
            for field in fields {
                for (raw, code) in faults(field) {
                    let reply = send_raw(&api, method, target, with_raw(base.clone(), field.0, &raw)).await;
                    let expected = if code == "invalid_billing_day" { "INVALID_BILLING_DAY" } else { "VALIDATION_ERROR" };
                    let shown: String = raw.chars().take(40).collect();
                    let place = format!("{method} {target} {} {shown}", field.0);
                    assert_eq!((reply.status, reply.code()), (400, expected.to_owned()), "{place}");
                    let fields = reply.details();
                    assert!(fields == [format!("{} ({code})", field.0)], "{place}: {fields:?}, not {code}");
                }
            }
        }
        for (target, base, fields) in [
            ("/v1/customers", new_customer(), &["email", "firstName", "lastName", "customerType"][..]),
            ("/v1/subscriptions", json!({"customerId": "C", "monthlyAmount": 5}), &["customerId", "monthlyAmount"]),
            ("/v1/subscriptions/R5/cancel", json!({"reason": "other"}), &["reason"]),
            ("/v1/payments/P1/cancel", json!({"reason": "x"}), &["reason"]),
            ("/v1/runs", json!({"runDate": "2026-06-10", "dryRun": true}), &["dryRun"]),
        ] {
            for field in fields {
                let mut body = base.clone();
                body.as_object_mut().expect("an object").remove(*field);
                let told = api.post(target, &body).await.expect(400, "VALIDATION_ERROR");
                assert_eq!(told.details(), [format!("{field} (required)")], "{target}");
            }
        }
        let parts = json!({"contactName": "A", "streetAddress": "S", "city": "B", "country": "DE"});
        for part in ["contactName", "streetAddress", "city", "country"] {
            let mut address = parts.clone();
            address.as_object_mut().expect("an object").remove(part);
            let told = api.put("/v1/customers/C", &json!({"billingAddress": address})).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("billingAddress.{part} (required)")]);
            address[part] = json!(5);
            let told = api.put("/v1/customers/C", &json!({"shippingAddress": address})).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("shippingAddress.{part} (invalid_type)")]);
        }
        for field in ["customerId", "groupName", "billingDay", "rentalIds"] {
            let told = api.post(GROUPS, &new_group(json!({field: null}))).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("{field} (required)")]);
        }
        for (entry, code) in [("5", "invalid_type"), ("null", "invalid_type"), ("\"\"", "too_small"), ("\"a\\u0000\"", "invalid_string"), ("[]", "invalid_type")] {
            let body = with_raw(new_group(json!({})), "rentalIds", &format!("[\"R3\", {entry}]"));
            let told = send_raw(&api, "POST", GROUPS, body).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("rentalIds.1 ({code})")]);
        }
        let told = api.post(GROUPS, &new_group(json!({"rentalIds": []}))).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["rentalIds (too_small)"]);
        assert_eq!(everything(&api).await, before);
        assert_eq!(api.world.db.number("select count(*) from audit_log where actor <> 'import'").await, 0);
    }

    async fn a_body_that_is_no_plain_object_is_refused_whole(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let deep = |levels: usize| format!("{{\"groupName\": \"a\", \"x\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
        let mut not_utf8 = b"{\"groupName\": \"".to_vec();
        not_utf8.extend([0xff, 0xfe, b'"', b'}']);
        let bodies: Vec<(Vec<u8>, &str)> = vec![
            (b"".to_vec(), "invalid_json"),
            (b"   ".to_vec(), "invalid_json"),
            (b"{".to_vec(), "invalid_json"),
            (b"{} {}".to_vec(), "invalid_json"),
            (b"[]".to_vec(), "invalid_type"),
            (b"null".to_vec(), "invalid_type"),
            (b"\"text\"".to_vec(), "invalid_type"),
            (b"15".to_vec(), "invalid_type"),
            (b"{\"billingDay\": NaN}".to_vec(), "invalid_json"),
            (b"{\"groupName\": \"\\ud800\"}".to_vec(), "invalid_json"),
            (b"{\"groupName\": \"\\udc00x\"}".to_vec(), "invalid_json"),
            (b"{\"groupName\": \"\0\"}".to_vec(), "invalid_json"),
            (b"{\"billingDay\": 3, \"billingDay\": 4}".to_vec(), "invalid_json"),
            (b"{\"x\": [{\"a\": 1, \"a\": 1}]}".to_vec(), "invalid_json"),
            (b"\xef\xbb\xbf{}".to_vec(), "invalid_json"),
            (deep(64).into_bytes(), "invalid_json"),
            (deep(1000).into_bytes(), "invalid_json"),
            (deep(1_000_000).into_bytes(), "invalid_json"),
            (not_utf8, "invalid_json"),
        ];
        for (method, target, ..) in self::bodies() {
            for (body, code) in bodies.iter().skip(usize::from(target.ends_with("mark-paid"))) {
                let shown = String::from_utf8_lossy(body).chars().take(60).collect::<String>();
                let told = send_raw(&api, method, target, body.clone()).await;
                assert_eq!((told.status, told.code().as_str()), (400, "VALIDATION_ERROR"), "{method} {shown}");
                assert_eq!(told.details(), [format!(" ({code})")], "{method} {shown}");
            }
        }
        send_raw(&api, "PATCH", G1, deep(63)).await.good(200);
    }

    async fn what_is_at_its_bounds_is_taken_and_kept_as_it_was_sent(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let name = format!(" {}👩‍💻 ", "ß".repeat(195));
        let notes = format!("{}\t\n", "n".repeat(1998));
        let body = new_group(json!({"groupName": name, "notes": notes, "billingDay": 28, "status": 5}));
        let group = api.post(GROUPS, &body).await.good(201)["billingGroup"].clone();
        assert_eq!((&group["groupName"], &group["notes"], &group["status"]), (&json!(name), &json!(notes), &json!("active")));
        for (raw, day) in [("1.0", 1), ("2.8e1", 28), ("280e-1", 28), ("15", 15)] {
            let group = send_raw(&api, "PATCH", G1, format!("{{\"billingDay\": {raw}}}")).await.good(200)["billingGroup"].clone();
            assert_eq!(group["billingDay"], day);
        }
        // Everything wrong is told at once, the first twenty of it.
        let told = api.post(GROUPS, &json!({"groupName": 5, "billingDay": 99, "rentalIds": vec![0; 30]})).await;
        let told = told.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details().len(), 20);
        assert_eq!(&told.details()[..3], ["groupName (invalid_type)", "billingDay (invalid_billing_day)", "rentalIds.0 (invalid_type)"]);
        assert!(told.body.contains("33 things are wrong"), "{}", told.body);
    }
}
