//! Importing: what files may hold, what is refused and how it is said, and what the ledger holds afterwards.

use billday::change::NotMade;
use billday::import::{Counts, ImportError, ImportFile, ImportSummary, Kind, import};
use chrono::{DateTime, Utc};

use crate::support::world::delete_group;
use crate::support::{TestDb, on_both};

const TENANT: &str =
    r#"{"tenantId": "T", "name": "Acme", "currency": "EUR", "timeZone": "Europe/Berlin", "billFrom": "2026-01-01"}"#;

/// A tenant, two customers, three rentals and a group with two of them.
const WORLD: &str = r#"{
  "tenants": [{"tenantId": "T", "name": "Acme", "currency": "EUR", "timeZone": "Europe/Berlin", "billFrom": "2026-01-01"}],
  "customers": [
    {"tenantId": "T", "customerId": "C1", "company": "Müller", "email": "a@example.com"},
    {"tenantId": "T", "customerId": "C2", "firstName": "Eve"}
  ],
  "rentals": [
    {"tenantId": "T", "rentalId": "R1", "customerId": "C1", "monthlyAmount": 129.00, "startDate": "2026-01-15"},
    {"tenantId": "T", "rentalId": "R2", "customerId": "C1", "monthlyAmount": "89.5", "startDate": "2026-01-31"},
    {"tenantId": "T", "rentalId": "R3", "customerId": "C2", "monthlyAmount": 1e2, "startDate": "2026-02-01"}
  ],
  "billingGroups": [
    {"tenantId": "T", "billingGroupId": "G1", "customerId": "C1", "billingDay": 15, "rentalIds": ["R1", "R2"]}
  ]
}"#;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn text(name: &str, text: impl Into<String>) -> ImportFile {
    let text: String = text.into();
    ImportFile::text(name, text)
}

async fn bring(db: &TestDb, files: &[ImportFile]) -> Result<ImportSummary, ImportError> {
    import(&db.store, files, Some("T"), at("2026-06-01T12:00:00Z")).await
}

/// Imports one text that must be accepted.
async fn accept(db: &TestDb, json: impl Into<String>) -> ImportSummary {
    match bring(db, &[text("in", json)]).await {
        Ok(summary) => summary,
        Err(error) => panic!("{error}"),
    }
}

/// What was accepted with a doubt.
fn doubts(summary: &ImportSummary) -> String {
    summary.warning_lines().collect::<Vec<_>>().join("\n")
}

/// Imports one text that must be refused, and gives the complaints.
async fn refuse(db: &TestDb, json: impl Into<String>) -> String {
    match bring(db, &[text("in", json)]).await {
        Ok(summary) => panic!("accepted: {summary}"),
        Err(error @ ImportError::Refused(..)) => error.to_string(),
        Err(error) => panic!("not refused but failed: {error}"),
    }
}

async fn world(db: &TestDb) {
    accept(db, WORLD).await;
}

fn counts(created: u64, changed: u64, unchanged: u64) -> Counts {
    Counts { created, changed, unchanged, ..Counts::default() }
}

/// Everything that billing reads, as text, without the marks of the call.
async fn content(db: &TestDb) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "select tenant_id || name || currency || time_zone || cast(bill_from as text) || party_id from tenants order by 1",
        "select customer_id || coalesce(company, '') || coalesce(billing_email, '') || party_id from customers order by 1",
        "select rental_id || customer_id || cast(monthly_amount as text) || cast(start_date as text) || status
                || coalesce(billing_group_id, '-') || coalesce(billed_group_id, '-') || coalesce(closed_through, '-')
         from rentals order by 1",
        "select billing_group_id || customer_id || cast(billing_day as text) || status from billing_groups order by 1",
        "select payment_id || subject_id || billing_period || status || cast(total as text) from payments order by 1",
        "select payment_id || rental_id || billing_period || cast(amount as text) from payment_lines order by 1",
        "select rental_id from uncharged_rentals order by 1",
    ] {
        all.extend(db.texts(sql).await);
    }
    all
}

fn payment(id: &str, rest: &str) -> String {
    format!(r#"{{"paymentId": "{id}", "customerId": "C1", {rest}}}"#)
}

on_both! {
    async fn all_kinds_come_in_and_again_without_a_change(db: TestDb) {
        let summary = accept(&db, WORLD).await;
        assert_eq!(
            summary.to_string(),
            "imported 1 tenant (1 new), 2 customers (2 new), 3 rentals (3 new), 1 group (1 new)"
        );
        let before = content(&db).await;
        assert!(before.contains(&"R1C1129002026-01-15activeG1G1-".to_owned()), "{before:?}");
        assert!(before.contains(&"R2C189502026-01-31activeG1G1-".to_owned()), "{before:?}");
        assert!(before.contains(&"R3C2100002026-02-01active---".to_owned()), "{before:?}");
        let times = "select cast(max(updated_at) + max(changed_at) as text) from rentals";
        let dated = db.texts(times).await;
        let again = import(&db.store, &[text("in", WORLD)], None, at("2026-07-01T12:00:00Z")).await.expect("accepted");
        assert_eq!(again.counts(Kind::Rental), counts(0, 0, 3));
        assert_eq!(again.counts(Kind::Tenant), counts(0, 0, 1));
        assert_eq!((content(&db).await, db.texts(times).await), (before, dated));
        assert_eq!(again.warning_count(), 0, "{again}");
    }

    async fn the_order_of_records_and_files_means_nothing(db: TestDb) {
        let payments = payment("P1", r#""billingGroupId": "G1", "billingPeriod": "2026-02", "subtotal": 10,
                              "lineItems": [{"rentalId": "R1", "amount": 10, "description": ""}]"#);
        let rentals = r#"[{"rentalId": "R1", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01"}]"#;
        let group = r#"{"billingGroupId": "G1", "customerId": "C1", "billingDay": 15, "rentalIds": ["R1"]}"#;
        let customers = "customerId,company\nC1,Acme\n";
        let files = [text("p", payments), text("r", rentals), text("g", group), text("c", customers), text("t", TENANT)];
        let summary = bring(&db, &files).await.expect("accepted");
        assert_eq!(summary.counts(Kind::Payment), counts(1, 0, 0));
        let there = content(&db).await;
        let mut files = files;
        files.reverse();
        let summary = bring(&db, &files).await.expect("accepted");
        assert_eq!(summary.counts(Kind::Payment), counts(0, 0, 1));
        assert_eq!(content(&db).await, there);
    }

    async fn a_refusal_leaves_nothing_behind(db: TestDb) {
        world(&db).await;
        let before = content(&db).await;
        let message = refuse(&db, r#"[
            {"rentalId": "R9", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01"},
            {"rentalId": "R1", "customerId": "C1", "monthlyAmount": 5, "startDate": "2026-01-01"},
            {"billingGroupId": "G1", "customerId": "C1", "billingDay": 29}]"#).await;
        assert_eq!(
            message,
            "in:4: group 'G1': billingDay: is 29: expected a whole number from 1 to 28\nnothing was imported"
        );
        assert_eq!(content(&db).await, before);
    }

    async fn each_bad_value_is_named_with_its_field_and_what_would_be_right(db: TestDb) {
        world(&db).await;
        let rental = |rest: &str| format!(r#"{{"rentalId": "X", "customerId": "C1", "startDate": "2026-01-01", {rest}}}"#);
        let group = |day: &str| format!(r#"{{"billingGroupId": "X", "customerId": "C1", "billingDay": {day}}}"#);
        for (record, message) in [
            (rental(r#""monthlyAmount": 12.345"#), "monthlyAmount: 12.345 has more than 2 decimal places (in EUR)"),
            (rental(r#""monthlyAmount": 100.5, "currency": "JPY""#), "monthlyAmount: 100.5 has more than 0 decimal places"),
            (rental(r#""monthlyAmount": 1e400"#), "monthlyAmount: 1e+400 is too large"),
            (rental(r#""monthlyAmount": "1e2""#), "monthlyAmount: '1e2' is not a decimal number"),
            (rental(r#""monthlyAmount": -1"#), "monthlyAmount: -1 must not be negative"),
            (rental(r#""monthlyAmount": "NaN""#), "monthlyAmount: NaN is not a decimal number"),
            (rental(r#""monthlyAmount": 1000000000000"#), "monthlyAmount: 1000000000000 is too large: the most is 999999999999 (in EUR)"),
            (rental(r#""monthlyAmount": null"#), "monthlyAmount: is missing"),
            (rental(r#""monthlyAmount": true"#), "monthlyAmount: true is not a decimal number"),
            (rental(r#""monthlyAmount": 1, "status": "paused""#), "status: 'paused' is none of active, cancelled"),
            (rental(r#""monthlyAmount": 1, "currency": "XXX""#), "currency: 'XXX' is not an ISO 4217 currency"),
            (rental(r#""monthlyAmount": 1, "endDate": "2025-12-31""#), "endDate: 2025-12-31 lies before startDate 2026-01-01"),
            (rental(r#""monthlyAmount": 1, "contractLength": 121"#), "contractLength: is 121: expected a whole number from 1 to 120 (0 and empty mean none)"),
            (rental(r#""monthlyAmount": 1, "tenantId": "U""#), "tenantId: there is no tenant 'U'"),
            (rental(r#""monthlyAmount": 1, "a": {"b": 1, "b": 2}"#), "a.b: is there twice"),
            (rental(r#""monthlyAmount": 1, "productName": "a\u0007b""#), "productName: holds the control character U+0007"),
            (r#"{"rentalId": "X", "customerId": "C9", "monthlyAmount": 1, "startDate": "2026-01-01"}"#.into(), "customerId: there is no customer 'C9'"),
            (r#"{"rentalId": "X", "customerId": "C1", "monthlyAmount": 1, "startDate": "1/2/2026"}"#.into(), "startDate: '1/2/2026' is not a date"),
            (group("0"), "billingDay: is 0: expected a whole number from 1 to 28"),
            (group("29"), "billingDay: is 29: expected"),
            (group("15.5"), "billingDay: is 15.5: expected"),
            (group("\"15\""), "billingDay: is '15': expected a whole number from 1 to 28, not a text"),
            (group("null"), "billingDay: is missing"),
            (r#"{"customerId": "C9"}"#.into(), "a customer needs a company, firstName, lastName or email"),
            (r#"{"customerId": "C9", "email": "a@b.c", "paymentTermsDays": 10}"#.into(), "customer 'C9': paymentTermsDays: is 10: expected 0, 7, 14 or 30"),
            (r#"{"customerid": "C9"}"#.into(), "its fields tell no kind of record (there is 'customerid': did you mean customerId?)"),
            (r#"{"customerId": "C9", "email": "nobody"}"#.into(), "email: 'nobody' is not an e-mail address"),
            (
                r#"{"customerId": "C9", "company": "A", "eInvoice": "pdf"}"#.into(),
                "eInvoice: 'pdf' is none of facturX, xRechnung, peppolUbl, none",
            ),
            (
                r#"{"customerId": "C9", "company": "A", "electronicAddress": "DE123456789"}"#.into(),
                "electronicAddress: 'DE123456789' is not written SCHEME:ID",
            ),
            (r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "Mars/Olympus"}"#.into(), "timeZone: 'Mars/Olympus' is not an IANA time zone"),
            (r#"{"tenantId": "U", "name": "U", "timeZone": "UTC"}"#.into(), "currency: is missing"),
            (r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "UTC", "proration": "daily"}"#.into(), "proration: 'daily' is not offered yet"),
            (r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "UTC", "tax": {"rate": 19.00001}}"#.into(), "tax.rate: 19.00001 has more than 4 decimal"),
            (r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "UTC", "tax": {"rate": 101}}"#.into(), "tax.rate: 101 is not between 0 and 100"),
            (r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "UTC", "invoiceNumberFormat": "INV"}"#.into(), "invoiceNumberFormat: must hold {seq}"),
            (r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "UTC", "billingCycle": {"fixedDay": 31}}"#.into(), "billingCycle.fixedDay: is 31"),
            (r#"{"name": "who"}"#.into(), "its fields tell no kind of record"),
            (r#"{"billingGroupId": "G1", "customerId": "C1", "billingDay": 5, "rentalIds": ["R3"]}"#.into(), "rental 'R3' belongs to customer 'C2', but group 'G1'"),
            (r#"{"billingGroupId": "G1", "customerId": "C1", "billingDay": 5, "rentalIds": ["R8"]}"#.into(), "rentalIds: there is no rental 'R8'"),
            (rental(r#""monthlyAmount": 1, "billingGroupId": "G9""#), "billingGroupId: there is no group 'G9'"),
        ] {
            let complaint = refuse(&db, record.clone()).await;
            assert!(complaint.starts_with(&format!("in:1: {message}")) || complaint.contains(message), "{record}\n{complaint}");
            assert!(complaint.ends_with("\nnothing was imported") && complaint.lines().count() == 2, "{record}\n{complaint}");
        }
    }

    async fn a_known_field_of_the_wrong_type_is_refused_and_not_taken_for_absent(db: TestDb) {
        world(&db).await;
        let tenant = |rest: &str| format!(r#"{{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "UTC", {rest}}}"#);
        let customer = |rest: &str| format!(r#"{{"customerId": "C9", "company": "A", {rest}}}"#);
        let rental = |rest: &str| {
            format!(r#"{{"rentalId": "X", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01", "status": "cancelled", {rest}}}"#)
        };
        let object = r#"expected an object {"mode": "exclusive" or "inclusive", "rate": 0 to 100}"#;
        for (record, message) in [
            (tenant(r#""tax": 19"#), format!("tenant 'U': tax: is 19: {object}")),
            (tenant(r#""tax": "19""#), format!("tenant 'U': tax: is '19': {object}")),
            (tenant(r#""tax": [19]"#), format!("tenant 'U': tax: is a list: {object}")),
            (tenant(r#""tax": {"percent": 19}"#), format!("tenant 'U': tax: has neither mode nor rate: {object}")),
            ("tenantId,name,currency,timeZone,tax\nU,U,EUR,UTC,19\n".into(), format!("tenant 'U': tax: is '19': {object}")),
            (tenant(r#""tax": {"rate": true}"#), "tenant 'U': tax.rate: true is not a decimal number".into()),
            (tenant(r#""tax": {"mode": 5}"#), "tenant 'U': tax.mode: is 5: expected a text".into()),
            (tenant(r#""billingCycle": 5"#), r#"tenant 'U': billingCycle: is 5: expected 'startDate' or {"fixedDay": 1 to 28}"#.into()),
            (tenant(r#""billingCycle": {"day": 5}"#), "tenant 'U': billingCycle.fixedDay: is missing".into()),
            (tenant(r#""address": 5"#), "tenant 'U': address: is 5: expected an address, that is an object or a text".into()),
            (customer(r#""billingAddress": ["a"]"#), "customer 'C9': billingAddress: is a list: expected an address".into()),
            (customer(r#""lastShippingAddress": true"#), "customer 'C9': lastShippingAddress: is true: expected an address".into()),
            (customer(r#""billingAddress": {"postalCode": 10115}"#), "customer 'C9': billingAddress.postalCode: is 10115: expected a text".into()),
            (rental(r#""cancellationDetails": "x""#), r#"rental 'X': cancellationDetails: is 'x': expected an object {"cancelledAt": a date}"#.into()),
            (rental(r#""earlyReturnDetails": ["2026-02-01"]"#), r#"rental 'X': earlyReturnDetails: is a list: expected an object {"returnedAt": a date}"#.into()),
            (rental(r#""buyoutDetails": 1"#), r#"rental 'X': buyoutDetails: is 1: expected an object {"buyoutDate": a date}"#.into()),
            (rental(r#""buyoutDetails": {"buyoutDate": 1}"#), "rental 'X': buyoutDetails.buyoutDate: is 1: expected a text".into()),
            (
                payment("P", r#""rentalId": "R1", "billingPeriod": "2026-02", "subtotal": 1, "lineItems": [{"rentalId": "R1", "amount": 1, "arrears": "yes"}]"#),
                "payment 'P': lineItems.0.arrears: is 'yes': expected true or false".into(),
            ),
            (payment("P", r#""rentalId": "R1", "billingPeriod": "2026-02", "subtotal": 1, "lineItems": {}"#), "payment 'P': lineItems: is an object: expected a list".into()),
        ] {
            let complaint = refuse(&db, record.clone()).await;
            let line = if record.starts_with('{') { 1 } else { 2 };
            assert!(complaint.starts_with(&format!("in:{line}: {message}")) && complaint.lines().count() == 2, "{record}\n{complaint}");
        }
        for record in [
            tenant(r#""tax": null, "billingCycle": null, "address": """#),
            tenant(r#""tax": {}, "billingCycle": "startDate""#),
            customer(r#""billingAddress": {}, "lastBillingAddress": null"#),
            rental(r#""cancellationDetails": null, "earlyReturnDetails": "", "buyoutDetails": {"reason": "other"}"#),
            "tenantId,name,currency,timeZone,tax\nV,V,EUR,UTC,\n".into(),
        ] {
            accept(&db, record).await;
        }
    }

    async fn a_record_that_lacks_what_tells_its_kind_does_not_replace_the_customer_that_it_names(db: TestDb) {
        world(&db).await;
        let before = content(&db).await;
        for (record, message) in [
            (
                r#"{"rentalId": "R9", "customerId": "C1", "company": "x", "monthlyamount": 5, "startDate": "2026-01-01"}"#,
                "in:1: rental 'R9': monthlyAmount: is missing (there is 'monthlyamount': did you mean monthlyAmount?)\n",
            ),
            (
                r#"{"rentalId": "R9", "customerId": "C1", "email": "x@example.com", "startDate": "2026-01-01"}"#,
                "in:1: rental 'R9': monthlyAmount: is missing\n",
            ),
            (
                r#"{"billingGroupId": "G1", "customerId": "C1", "email": "x@example.com", "billing_day": 5}"#,
                "in:1: group 'G1': billingDay: is missing (there is 'billing_day': did you mean billingDay?)\n",
            ),
            (
                r#"{"paymentid": "P", "customerId": "C1", "email": "x@example.com", "billingPeriod": "2026-02", "subtotal": 1, "rentalId": "R1"}"#,
                "in:1: payment: paymentId: is missing (there is 'paymentid': did you mean paymentId?)\n",
            ),
            (
                "rentalId,customerId,email,monthlyamount,startDate\nR9,C1,x@example.com,5,2026-01-01\nR8,C1,x@example.com,5,2026-01-01\n",
                "in:1: the header lacks what a rental needs: monthlyAmount (there is 'monthlyamount': did you mean monthlyAmount?)\n",
            ),
            (
                "billingGroupId,customerId,email\nG1,C1,x@example.com\n",
                "in:1: the header lacks what a group needs: billingDay\n",
            ),
        ] {
            let complaint = refuse(&db, record).await;
            assert_eq!(complaint, format!("{message}nothing was imported"), "{record}");
        }
        assert_eq!(content(&db).await, before);
        // What refers to the records of a file with a bad header is not to blame.
        let files = [text("c", "customerid,company\nC7,A\n"), text("r", r#"{"rentalId": "R9", "customerId": "C7", "monthlyAmount": 1, "startDate": "2026-01-01"}"#)];
        let complaint = bring(&db, &files).await.expect_err("refused").to_string();
        assert!(complaint.starts_with("c:1: the header") && complaint.lines().count() == 2, "{complaint}");
        // Members and payments name groups and rentals by right, and a download's customer lists its rentals.
        accept(&db, r#"{"customerId": "C1", "company": "Müller", "rentalIds": ["R1"], "rentalId": null}"#).await;
    }

    async fn complaints_about_a_file_of_one_line_name_the_record(db: TestDb) {
        world(&db).await;
        let rental = |id: &str, rest: &str| format!(r#"{{"rentalId": "{id}", "customerId": "C1", "startDate": "2026-01-01", {rest}}}"#);
        let download = format!(
            r#"{{"rentals": [{}, {}], "billingGroups": [{{"billingGroupId": "G7", "customerId": "C7", "billingDay": 1}}], "tenants": [{{"name": "x"}}]}}"#,
            rental("r-6", r#""monthlyAmount": 1, "billingGroupId": "G9""#),
            rental("r-7", r#""monthlyAmount": "x""#),
        );
        let complaint = refuse(&db, download).await;
        let mut lines: Vec<&str> = complaint.lines().collect();
        assert_eq!(lines.pop(), Some("nothing was imported"));
        lines.sort_unstable();
        assert_eq!(lines, [
            "in:1: group 'G7': customerId: there is no customer 'C7'",
            "in:1: rental 'r-6': billingGroupId: there is no group 'G9'",
            "in:1: rental 'r-7': monthlyAmount: x is not a decimal number (in EUR)",
            "in:1: tenant: currency: is missing",
            "in:1: tenant: tenantId: is missing",
            "in:1: tenant: timeZone: is missing",
        ]);
        let tenant = TENANT.replace("2026-01-01", "2026-02-01");
        let summary = accept(&db, tenant).await;
        assert!(doubts(&summary).starts_with("warning: in:1: tenant 'T': billFrom: was 2026-01-01"), "{}", doubts(&summary));
        assert_eq!(summary.warnings().next().map(|w| w.record.as_str()), Some("tenant 'T'"));
    }

    async fn one_file_under_two_names_and_a_dash_are_told(db: TestDb) {
        let path = db.file("world.json", WORLD);
        let again = db.dir.path().join(".").join("world.json");
        let link = db.dir.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let bring_paths = async |paths: [&std::path::Path; 2]| {
            let files = paths.map(|path| ImportFile::Path(path.to_owned()));
            bring(&db, &files).await.expect_err("refused").to_string()
        };
        let name = path.display();
        assert_eq!(bring_paths([&path, &path]).await, format!("the file {name} is named twice: nothing was imported"));
        for other in [&again, &link] {
            let message = bring_paths([&path, other]).await;
            let also = other.display();
            assert_eq!(message, format!("the file {name} is named twice, also as {also}: nothing was imported"));
        }
        let dash = bring(&db, &[ImportFile::Path("-".into())]).await.expect_err("refused").to_string();
        assert_eq!(dash, "cannot read -: for standard input use /dev/stdin");
        assert_eq!(db.number("select count(*) from tenants").await, 0);
    }

    async fn a_file_that_cannot_be_read_to_its_end_brings_nothing(db: TestDb) {
        for (content, message) in [
            (&b"[{\"customerId\": \"T\"},\n{\"tenantId\""[..], "bad:2: the file ends too early"),
            (b"[{\"customerId\": \"T\"}\n{}]", "bad:2: is not well-formed JSON"),
            (b"[1]", "bad:1: is 1: expected a record"),
            (b"customerId,company\nC1,M\xFCller\n", "bad:2: is not UTF-8 text at the byte 0xfc"),
            (b"{\"customerId\": \"C1\",\n\"company\": \"M\xFCller\"}", "bad:2: is not UTF-8 text"),
            (b"name,city\na,b\n", "bad:1: the header 'name,city' tells no kind of record"),
            (b"customerId;company\nC1;A\n", "bad:1: the header is 'customerId;company': cells are separated by commas, not by ';'"),
            (b"customerId,company\nC1,A\nC2,\"B\nC3,C\n", "bad:3: a quote opens here that is closed nowhere"),
            (b"{\"rentals\": {\"x\": 1}}", "bad:1: rentals: is an object: expected a list of rentals"),
            (b"customerId,company\nC1\n", "bad:2: has 1 cells where the header has 2"),
        ] {
            let path = db.file("bad", content);
            let name = path.display().to_string();
            let files = [text("t", TENANT), ImportFile::Path(path)];
            let error = bring(&db, &files).await.expect_err("refused").to_string().replace(&name, "bad");
            assert!(error.starts_with(message), "{error}");
            assert_eq!(db.number("select count(*) from tenants").await, 0);
        }
        let missing = bring(&db, &[ImportFile::Path(db.dir.path().join("none"))]).await.expect_err("refused");
        assert!(matches!(missing, ImportError::Unreadable(..)), "{missing}");
    }

    async fn more_than_twenty_faults_are_counted(db: TestDb) {
        world(&db).await;
        let records: Vec<String> = (0..30)
            .map(|n| format!(r#"{{"rentalId": "X{n}", "customerId": "C9", "monthlyAmount": -1, "startDate": "x"}}"#))
            .collect();
        let message = refuse(&db, records.join("\n")).await;
        assert_eq!(message.lines().count(), 22, "{message}");
        assert!(message.contains("\nand 40 more\n"), "{message}");
        let good = |n| format!(r#"{{"rentalId": "X{n}", "customerId": "C9", "monthlyAmount": 1, "startDate": "2026-01-01"}}"#);
        let records: Vec<String> = (0..30).map(good).collect();
        let message = refuse(&db, records.join("\n")).await;
        assert!(message.contains("\nand 10 more\n") && message.starts_with("in:1: rental 'X0': customerId: there is no"), "{message}");
    }

    async fn an_id_given_twice_is_refused_in_one_file_and_across_files(db: TestDb) {
        world(&db).await;
        let rental = r#"{"rentalId": "R9", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01"}"#;
        let message = refuse(&db, format!("{rental}\n\n{rental}")).await;
        assert!(message.starts_with("in:3: rental 'R9': rentalId: was given before in this import, at in:1"), "{message}");
        for (kind, record) in [
            ("tenant", TENANT),
            ("customer", r#"{"customerId": "C1", "company": "x"}"#),
            ("group", r#"{"billingGroupId": "G1", "customerId": "C1", "billingDay": 1}"#),
        ] {
            let error = bring(&db, &[text("a", record), text("b", record)]).await.expect_err("refused").to_string();
            assert!(error.starts_with("b:1: ") && error.contains(kind) && error.contains("at a:1"), "{error}");
        }
        // Beyond one chunk too.
        let many: Vec<String> = (0..1500).map(|n| rental.replace("R9", &format!("M{}", n % 1499))).collect();
        assert!(refuse(&db, many.join("\n")).await.contains("in:1500: rental 'M0': rentalId: was given before in this import, at in:1"));
    }

    async fn membership_is_what_the_call_says(db: TestDb) {
        world(&db).await;
        let members = "select rental_id || coalesce(billing_group_id, '-') || coalesce(billed_group_id, '-') from rentals order by 1";
        let group = |id: &str, rest: &str| format!(r#"{{"billingGroupId": "{id}", "customerId": "C1", "billingDay": 15{rest}}}"#);
        // Absent: unchanged. A list is the whole membership. Another group's list moves a rental.
        accept(&db, group("G1", "")).await;
        assert_eq!(db.texts(members).await, ["R1G1G1", "R2G1G1", "R3--"]);
        accept(&db, group("G2", r#", "rentalIds": ["R2"]"#)).await;
        assert_eq!(db.texts(members).await, ["R1G1G1", "R2G2G2", "R3--"]);
        // An inactive group keeps its members and bills none.
        accept(&db, group("G2", r#", "status": "inactive""#)).await;
        assert_eq!(db.texts(members).await, ["R1G1G1", "R2G2-", "R3--"]);
        accept(&db, group("G2", "")).await;
        assert_eq!(db.texts(members).await, ["R1G1G1", "R2G2-", "R3--"]);
        let summary = accept(&db, group("G2", r#", "status": "active""#)).await;
        assert!(doubts(&summary).contains("was inactive and bills its members again"), "{}", doubts(&summary));
        // A rental's own word moves it, null takes it out, absent leaves it.
        let rental = |id: &str, rest: &str| {
            format!(r#"{{"rentalId": "{id}", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01"{rest}}}"#)
        };
        accept(&db, format!("{}\n{}", rental("R1", r#", "billingGroupId": "G2""#), rental("R2", ""))).await;
        assert_eq!(db.texts(members).await, ["R1G2G2", "R2G2G2", "R3--"]);
        accept(&db, rental("R2", r#", "billingGroupId": null"#)).await;
        assert_eq!(db.texts(members).await, ["R1G2G2", "R2--", "R3--"]);
        accept(&db, rental("R1", r#", "billingGroupId": """#)).await;
        assert_eq!(db.texts(members).await, ["R1G2G2", "R2--", "R3--"]);
        accept(&db, group("G2", r#", "rentalIds": []"#)).await;
        assert_eq!(db.texts(members).await, ["R1--", "R2--", "R3--"]);
        accept(&db, "billingGroupId,customerId,billingDay,rentalIds\nG1,C1,3,R1;R2\nG2,C1,4,[]\n").await;
        assert_eq!(db.texts(members).await, ["R1G1G1", "R2G1G1", "R3--"]);
        accept(&db, "rentalId,customerId,monthlyAmount,startDate,billingGroupId\nR1,C1,5,2026-01-01,null\nR2,C1,5,2026-01-01,\n").await;
        assert_eq!(db.texts(members).await, ["R1--", "R2G1G1", "R3--"]);
    }

    async fn statements_of_one_call_that_disagree_are_refused_naming_both(db: TestDb) {
        world(&db).await;
        let group = |id: &str, list: &str| format!(r#"{{"billingGroupId": "{id}", "customerId": "C1", "billingDay": 15, "rentalIds": {list}}}"#);
        let rental = |rest: &str| {
            format!(r#"{{"rentalId": "R1", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01", "billingGroupId": {rest}}}"#)
        };
        let message = refuse(&db, format!("{}\n{}", group("G1", r#"["R1"]"#), group("G2", r#"["R1"]"#))).await;
        assert!(message.starts_with("in:2: group 'G2': rentalIds: puts rental 'R1' into group 'G2'") && message.contains("group 'G1'") && message.contains("(at in:1)"), "{message}");
        let message = refuse(&db, format!("{}\n{}", group("G1", r#"["R1"]"#), rental("null"))).await;
        assert!(message.contains("rental 'R1': billingGroupId: puts it into no group") && message.contains("(at in:1)"), "{message}");
        let message = refuse(&db, format!("{}\n{}", rental(r#""G1""#), group("G1", "[]"))).await;
        assert!(message.contains("in:1: rental 'R1': billingGroupId: puts it into group 'G1'") && message.contains("(at in:2)"), "{message}");
        // On one line, places are equal and still two records disagree.
        let message = refuse(&db, format!("[{},{}]", group("G1", r#"["R1"]"#), group("G2", r#"["R1"]"#))).await;
        assert_eq!(message.lines().count(), 2, "{message}");
        accept(&db, format!("{}\n{}", rental(r#""G1""#), group("G1", r#"["R1", "R1"]"#))).await;
    }

    async fn a_member_in_another_currency_is_a_warning(db: TestDb) {
        world(&db).await;
        let summary = accept(&db, r#"{"rentalId": "R4", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01",
                                      "currency": "USD", "billingGroupId": "G1"}"#).await;
        assert!(doubts(&summary).contains("group 'G1' has members in EUR and USD"), "{}", doubts(&summary));
        assert_eq!(summary.warnings().next().map(|w| (w.file.as_str(), w.line)), Some(("in", 1)));
    }

    async fn a_deleted_group_comes_back_and_says_so(db: TestDb) {
        world(&db).await;
        let delete = || delete_group(&db.store, "G1", DateTime::UNIX_EPOCH);
        assert_eq!(delete().await.expect("deleted").rental_ids, ["R1", "R2"]);
        assert_eq!(db.number("select count(*) from rentals where billing_group_id is not null").await, 0);
        assert!(matches!(delete().await, Err(NotMade::Refused(_))), "nothing to delete");
        let summary = accept(&db, WORLD).await;
        assert!(summary.to_string().contains("1 group (restored 1)"), "{summary}");
        assert_eq!(db.number("select count(*) from deleted_groups").await, 0);
        assert_eq!(db.number("select count(*) from rentals where billed_group_id = 'G1'").await, 2);
    }

    async fn what_a_record_leaves_out_gets_its_default_but_status_and_bill_from_stay(db: TestDb) {
        accept(&db, r#"{"tenantId": "T", "name": "A", "currency": "EUR", "timeZone": "Asia/Tokyo", "maxArrears": 5, "legalName": "A Ltd"}"#).await;
        let tenant = "select cast(bill_from as text) || cast(max_arrears as text) || coalesce(legal_name, '-') from tenants";
        assert_eq!(db.texts(tenant).await, ["2026-06-015A Ltd"]);
        let later = at("2026-09-01T20:00:00Z");
        let record = r#"{"tenantId": "T", "name": "A", "currency": "JPY", "timeZone": "Asia/Tokyo"}"#;
        import(&db.store, &[text("in", record)], None, later).await.expect("accepted");
        assert_eq!(db.texts(tenant).await, ["2026-06-012-"]);
        let summary = accept(&db, r#"{"tenantId": "T", "name": "A", "currency": "EUR", "timeZone": "Asia/Tokyo", "billFrom": "2026-01-01"}"#).await;
        assert!(doubts(&summary).contains("billFrom: was 2026-06-01"), "{}", doubts(&summary));
        accept(&db, "customerId,company\nC1,A").await;
        let rental = |rest: &str| {
            format!(r#"{{"rentalId": "R", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01", "contractLength": 0, "sku": ""{rest}}}"#)
        };
        accept(&db, rental(r#", "status": "cancelled", "cancellationDetails": {"cancelledAt": "2026-05-03T22:30:00Z"}, "buyoutDate": "2026-08-01""#)).await;
        assert_eq!(db.texts("select status || cast(ended_on as text) from rentals").await, ["cancelled2026-05-04"]);
        accept(&db, rental("")).await;
        assert_eq!(db.texts("select status || coalesce(cast(ended_on as text), '-') from rentals").await, ["cancelled-"]);
        let summary = accept(&db, rental(r#", "status": "active""#)).await;
        assert!(doubts(&summary).contains("rental 'R' was cancelled and is active again"), "{}", doubts(&summary));
    }

    async fn past_payments_close_history_and_name_what_they_charged(db: TestDb) {
        world(&db).await;
        let consolidated = payment("P1", r#""billingGroupId": "G1", "billingPeriod": "2026-02", "subtotal": 20, "taxAmount": 3.8,
            "total": 23.8, "taxRate": 19, "lineItems": [
              {"rentalId": "R1", "amount": 10, "description": "a"},
              {"rentalId": "R2", "amount": 10, "description": "b", "billingPeriod": "2026-01", "arrears": true}]"#);
        let individual = payment("P2", r#""rentalId": "R1", "billingPeriod": "2026-04", "subtotal": 10, "idempotencyKey": "old", "status": "pending""#);
        let summary = accept(&db, format!("{consolidated}\n{individual}")).await;
        assert!(doubts(&summary).contains("rental 'R1' has no payment between 2026-02 and 2026-04"), "{}", doubts(&summary));
        assert_eq!(
            db.texts("select rental_id || coalesce(closed_through, '-') from rentals order by 1").await,
            ["R12026-04", "R22026-01", "R3-"]
        );
        assert_eq!(db.texts("select rental_id from uncharged_rentals").await, ["R3"]);
        assert_eq!(
            db.texts("select payment_id || status || subject_name || coalesce(notes, '-') from payments order by 1").await,
            ["P1paidG1-", "P2pendingR1idempotencyKey: old"]
        );
        assert_eq!(db.number("select count(*) from payments where live and origin = 'import'").await, 2);
        assert_eq!(db.number("select count(*) from payment_lines where live and imported").await, 3);
        let again = accept(&db, format!("{consolidated}\n{individual}")).await;
        assert_eq!(again.counts(Kind::Payment), counts(0, 0, 2));
        // A line that goes opens its rental again.
        let moved = consolidated.replace(r#"{"rentalId": "R2""#, r#"{"rentalId": "R1""#);
        assert_eq!(accept(&db, moved).await.counts(Kind::Payment), counts(0, 1, 0));
        assert_eq!(db.texts("select rental_id from uncharged_rentals order by 1").await, ["R2", "R3"]);
        assert_eq!(db.texts("select rental_id || coalesce(closed_through, '-') from rentals order by 1").await, ["R12026-04", "R2-", "R3-"]);
        // Nothing leaves paid.
        let failed = consolidated.replace(r#""subtotal""#, r#""status": "failed", "subtotal""#);
        let summary = accept(&db, failed).await;
        assert!(doubts(&summary).contains("payment 'P1' is paid and stays so"), "{}", doubts(&summary));
    }

    async fn two_payments_for_one_period_are_refused_unless_one_is_cancelled(db: TestDb) {
        world(&db).await;
        let alone = |id: &str, status: &str| payment(id, &format!(
            r#""rentalId": "R1", "billingPeriod": "2026-02", "subtotal": 10, "status": "{status}""#));
        let grouped = |id: &str, status: &str| payment(id, &format!(
            r#""billingGroupId": "G1", "billingPeriod": "2026-02", "subtotal": 10, "status": "{status}",
               "lineItems": [{{"rentalId": "R1", "amount": 10}}]"#)).replace('\n', "");
        let message = refuse(&db, format!("{}\n{}", alone("P1", "paid"), alone("P2", "pending"))).await;
        assert!(message.contains("payments 'P1' and 'P2' (at in:1) are both for rental R1 and 2026-02"), "{message}");
        assert_eq!(message.lines().count(), 2, "{message}");
        let message = refuse(&db, format!("{}\n{}", alone("P1", "paid"), grouped("P2", "paid"))).await;
        assert!(message.contains("payments 'P1' and 'P2' (at in:1) both charge rental 'R1' for 2026-02"), "{message}");
        accept(&db, format!("{}\n{}\n{}", alone("P1", "cancelled"), alone("P2", "cancelled"), grouped("P3", "paid"))).await;
        let live = "select p.payment_id || (case when p.live then '+' else '-' end) || (case when l.live then '+' else '-' end)
                    from payments p join payment_lines l on l.tenant_id = p.tenant_id and l.payment_id = p.payment_id order by 1";
        assert_eq!(db.texts(live).await, ["P1--", "P2--", "P3++"]);
        // Against what is stored too, in either direction.
        assert!(refuse(&db, alone("P4", "paid")).await.contains("'P3' and 'P4'"));
        // A cancelled one holds the period if nobody else does.
        accept(&db, alone("P5", "cancelled").replace("2026-02", "2026-03")).await;
        assert_eq!(db.texts(live).await, ["P1--", "P2--", "P3++", "P5++"]);
        assert_eq!(db.texts("select closed_through from rentals where rental_id = 'R1'").await, ["2026-03"]);
    }

    async fn what_billday_charged_itself_is_neither_changed_nor_charged_again(db: TestDb) {
        world(&db).await;
        db.execute(
            "insert into payments (tenant_id, payment_id, subject_kind, subject_id, customer_id, subject_name, billing_period,
                 currency, subtotal, tax_amount, total, tax_rate_ppm, tax_treatment, status, issue_date, due_date, line_count,
                 origin, live, created_at, updated_at)
             values ('T', 'B1', 'group', 'G1', 'C1', 'G1', '2026-05', 'EUR', 100, 0, 100, 0, 'standard', 'pending',
                     '2026-05-15', '2026-05-29', 1, 'billday', (1 = 1), 1, 1);
             insert into payment_lines (tenant_id, payment_id, rental_id, billing_period, amount, tax_amount, arrears,
                                        imported, live)
             values ('T', 'B1', 'R1', '2026-05', 100, 0, (1 = 0), (1 = 0), (1 = 1));
             delete from uncharged_rentals where rental_id = 'R1'",
        )
        .await;
        let items = r#""lineItems": [{"rentalId": "R1", "amount": 1}]"#;
        let group = payment("P1", &format!(r#""billingGroupId": "G1", "billingPeriod": "2026-05", "subtotal": 1, {items}"#));
        assert!(refuse(&db, group.clone()).await.contains("in:1: payment 'P1': billingPeriod: billday itself billed group G1 for 2026-05, with payment 'B1'"));
        let alone = payment("P1", r#""rentalId": "R1", "billingPeriod": "2026-05", "subtotal": 1"#);
        assert!(refuse(&db, alone.clone()).await.contains("in:1: payment 'P1': billingPeriod: billday itself charged rental 'R1' for 2026-05, on payment 'B1'"));
        let cancelled = alone.replace(r#""subtotal""#, r#""status": "cancelled", "subtotal""#);
        accept(&db, cancelled).await;
        assert_eq!(db.texts("select payment_id from payment_lines where live").await, ["B1"]);
        assert_eq!(db.number("select count(*) from rentals where closed_through is not null").await, 0);
        let summary = accept(&db, group.replace("P1", "B1")).await;
        assert!(summary.to_string().contains("1 payment (1 billed here and left as they are)"), "{summary}");
        assert_eq!(db.texts("select status from payments where payment_id = 'B1'").await, ["pending"]);
        let message = refuse(&db, r#"{"tenantId": "T", "name": "A", "currency": "USD", "timeZone": "UTC"}"#).await;
        assert!(message.contains("tenant 'T': currency: the tenant has payments in EUR"), "{message}");
    }

    async fn payments_that_do_not_add_up_or_lead_nowhere_are_refused(db: TestDb) {
        world(&db).await;
        for (rest, message) in [
            (r#""billingGroupId": "G1", "billingPeriod": "2026-05", "subtotal": 1"#, "lineItems: is missing"),
            (r#""rentalId": "R1", "billingPeriod": "2026-13", "subtotal": 1"#, "billingPeriod: '2026-13' is not a billing period"),
            (r#""rentalId": "R1", "billingPeriod": "2026-05", "subtotal": 1, "total": 2"#, "total: 2.00 is not subtotal plus taxAmount, which is 1.00"),
            (r#""rentalId": "R1", "billingPeriod": "2026-05""#, "subtotal: is missing"),
            (r#""rentalId": "R8", "billingPeriod": "2026-05", "subtotal": 1"#, "rentalId: there is no rental 'R8'"),
            (r#""billingGroupId": "G8", "billingPeriod": "2026-05", "subtotal": 1, "lineItems": [{"rentalId": "R1", "amount": 1}]"#, "billingGroupId: there is no group 'G8'"),
            (r#""billingGroupId": "G1", "billingPeriod": "2026-05", "subtotal": 1, "lineItems": [{"rentalId": "R8", "amount": 1}]"#, "lineItems: there is no rental 'R8'"),
            (r#""billingPeriod": "2026-05", "subtotal": 1"#, "rentalId: is missing"),
        ] {
            let complaint = refuse(&db, payment("P", rest)).await;
            assert!(complaint.contains(message) && complaint.lines().count() == 2, "{complaint}");
        }
    }

    async fn one_bad_record_is_blamed_once_and_not_by_all_that_name_it(db: TestDb) {
        accept(&db, TENANT).await;
        let message = refuse(&db, r#"[
            {"customerId": "C1", "company": "A", "status": "gone"},
            {"rentalId": "R1", "customerId": "C1", "monthlyAmount": 1, "startDate": "2026-01-01"},
            {"rentalId": "R2", "customerId": "C1", "monthlyAmount": 1.111, "startDate": "2026-01-01"},
            {"billingGroupId": "G1", "customerId": "C1", "billingDay": 1, "rentalIds": ["R1", "R2"]}]"#).await;
        assert_eq!(
            message,
            "in:2: customer 'C1': status: 'gone' is none of active, inactive\n\
             in:4: rental 'R2': monthlyAmount: 1.111 has more than 2 decimal places (in EUR)\nnothing was imported"
        );
        let message = refuse(&db, r#"{"tenantId": "U", "name": "U", "currency": "EUR", "timeZone": "?"}
            {"tenantId": "U", "customerId": "C1", "company": "A"}"#).await;
        assert_eq!(message.lines().count(), 2, "{message}");
    }

    async fn an_address_in_a_snapshot_is_an_object_and_no_text_that_holds_one(db: TestDb) {
        let address = r#"{"streetAddress": "Street 1", "postalCode": "10115", "city": "Berlin", "country": "DE"}"#;
        accept(&db, format!(
            r#"{{"tenantId": "T", "name": "A", "currency": "EUR", "timeZone": "UTC", "address": {address}}}
               {{"tenantId": "T", "customerId": "C1", "company": "A", "billingAddress": {address}}}
               {{"tenantId": "T", "customerId": "C2", "company": "B", "billingAddress": "Street 2\n10115 Berlin"}}"#
        )).await;
        let mut addresses = Vec::new();
        for body in db.texts("select body from parties").await {
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let address = body.get("address").or(body.get("billingAddress")).expect("an address");
            addresses.push(address.clone());
        }
        let object: serde_json::Value = serde_json::from_str(address).expect("JSON");
        assert_eq!(addresses.iter().filter(|address| **address == object).count(), 2, "{addresses:?}");
        assert!(addresses.contains(&serde_json::json!("Street 2\n10115 Berlin")), "{addresses:?}");
    }

    async fn a_pipe_can_be_imported_though_files_are_read_twice(db: TestDb) {
        let path = db.dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, WORLD).expect("a reader")
        });
        let summary = bring(&db, &[ImportFile::Path(path)]).await.expect("accepted");
        writer.join().expect("written");
        assert_eq!(summary.counts(Kind::Rental), counts(3, 0, 0));
    }

    async fn lines_that_do_not_add_up_are_a_warning(db: TestDb) {
        world(&db).await;
        let summary = accept(&db, payment("P1", r#""billingGroupId": "G1", "billingPeriod": "2026-02", "subtotal": 3,
            "lineItems": [{"rentalId": "R1", "amount": 1}]"#)).await;
        assert!(doubts(&summary).contains("in:1: lineItems: the amounts of payment 'P1' do not add up"), "{}", doubts(&summary));
    }

    async fn pretty_printed_one_line_and_csv_files_bring_the_same(db: TestDb) {
        let rentals: Vec<String> = (0..2500)
            .map(|n| format!(r#"{{"rentalId":"N{n}","customerId":"C1","monthlyAmount":{n}.5,"startDate":"2026-01-0{}"}}"#, n % 9 + 1))
            .collect();
        world(&db).await;
        let one_line = format!("{{\"rentals\":[{}],\"count\":2500,\"hasMore\":false}}", rentals.join(","));
        assert_eq!(accept(&db, one_line).await.counts(Kind::Rental), counts(2500, 0, 0));
        let pretty = format!("[\n{}\n]", rentals.join(",\n").replace("{\"", "{\n  \"").replace(",\"", ",\n  \""));
        assert_eq!(accept(&db, pretty).await.counts(Kind::Rental), counts(0, 0, 2500));
        let rows: Vec<String> = (0..2500).map(|n| format!("N{n},C1,{n}.50,2026-01-0{},", n % 9 + 1)).collect();
        let csv = format!("\u{FEFF}rentalId,customerId,monthlyAmount,startDate,endDate\r\n{}\r\n", rows.join("\r\n"));
        let path = db.file("rentals.csv", csv);
        let summary = bring(&db, &[ImportFile::Path(path)]).await.expect("accepted");
        assert_eq!(summary.counts(Kind::Rental), counts(0, 0, 2500));
        accept(&db, "tenantId,name,currency,timeZone,tax.mode,tax.rate,billingCycle.fixedDay\nU,Uno,JPY,UTC,inclusive,7.5,5\n").await;
        assert_eq!(
            db.texts("select tax_mode || cast(tax_rate_ppm as text) || cast(billing_fixed_day as text) from tenants where tenant_id = 'U'").await,
            ["inclusive750005"]
        );
    }
}
