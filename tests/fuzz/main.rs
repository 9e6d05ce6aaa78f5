//! That nothing from outside makes billday panic or break its word: the bodies of the fuzz targets, driven by their seeds, by
//! mutations of them, and by inputs that are made close to good ones. `scripts/fuzz` drives the same bodies with libFuzzer.
//!
//! A failure prints the smallest input that was found; as a file in `tests/fuzz/corpus/<target>/` it is tried ever after.

#[path = "bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;

use billday::config::DEFAULT_TOML;
use bodies::{BETWEEN, PARAMETERS, TARGETS};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{TestError, TestRunner};

/// The small files that a target begins with.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<Vec<u8>> = files.map(|file| fs::read(file.expect("a file").path()).expect("a file")).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

/// How often each is tried for one case of CI; `BILLDAY_TEST_TORTURE` multiplies it.
fn cases(cases: u32) -> ProptestConfig {
    let torture = std::env::var("BILLDAY_TEST_TORTURE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    ProptestConfig { cases: cases * torture, failure_persistence: None, ..ProptestConfig::default() }
}

/// Tries a target with its seeds, with mutations of them and of what `near` makes, and with bytes alone.
fn drive(target: &str, count: u32, near: BoxedStrategy<Vec<u8>>) {
    let (_, body) = TARGETS.into_iter().find(|(name, _)| *name == target).expect(target);
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| body(seed));
    let words = words(&seeds);
    let inputs = prop_oneof![
        4 => near.clone(),
        3 => mutated(prop_oneof![select(seeds), near].boxed(), words),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    let tried = TestRunner::new(cases(count)).run(&inputs, |input| {
        body(&input);
        Ok(())
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{target} fails with b\"{}\": {why}", input.escape_ascii()),
        Err(TestError::Abort(why)) => panic!("{target}: {why}"),
    }
}

/// Pieces of the seeds between marks, to be put elsewhere.
fn words(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = seeds
        .iter()
        .flat_map(|seed| seed.split(|byte| !byte.is_ascii_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let marks = [
        "\"",
        "\r\n",
        "\n",
        "\0",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "'",
        "=",
        "-",
        "+",
        ".",
        "e",
        "%",
        "\u{85}",
        "\u{202e}",
        "9999999999",
        "ä",
    ];
    words.extend(marks.map(|mark| mark.as_bytes().to_vec()));
    words.push(vec![BETWEEN]);
    words.sort();
    words.dedup();
    words
}

/// A few places of an input, taken out or replaced by words and bytes.
fn mutated(inputs: BoxedStrategy<Vec<u8>>, words: Vec<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    let new = prop_oneof![3 => select(words), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    let edits = prop::collection::vec((any::<Index>(), 0_usize..6, new), 1..6);
    let edited = (inputs, edits).prop_map(|(mut input, edits)| {
        for (at, gone, new) in edits {
            let start = at.index(input.len() + 1);
            let end = (start + gone).min(input.len());
            input.splice(start..end, new);
        }
        input
    });
    edited.boxed()
}

/// Several texts as one input.
fn joined(texts: Vec<BoxedStrategy<String>>) -> BoxedStrategy<Vec<u8>> {
    texts.prop_map(|texts| texts.iter().map(String::as_bytes).collect::<Vec<_>>().join(&BETWEEN)).boxed()
}

fn bytes_of(text: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Vec<u8>> {
    text.prop_map(String::into_bytes).boxed()
}

#[test]
fn every_target_has_seeds_and_all_of_them_together_are_small() {
    let sizes = TARGETS.map(|(target, _)| seeds(target).iter().map(Vec::len).sum::<usize>());
    assert!(sizes.iter().sum::<usize>() <= 20_000, "{sizes:?}");
}

#[test]
fn any_text_is_an_amount_that_is_exact_or_is_refused_with_the_right_reason() {
    drive("money", 2_000, bytes_of("-?[0-9]{0,20}(\\.[0-9]{0,8}0{0,8})?([eE][+-]?[0-9]{1,3})?"));
}

#[test]
fn days_months_contracts_and_zones_agree_with_a_walk_over_all_days() {
    let text = "([0-9]{4}|[+-]?[0-9]{1,6})-[01]?[0-9](-[0-3]?[0-9])?([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,9})?)?(Z|[+-][0-2][0-9]:?[0-5][0-9])?)?";
    let near = (prop::collection::vec(any::<u8>(), 28), text)
        .prop_map(|(numbers, text)| [numbers, text.into_bytes()].concat());
    drive("calendar", 400, near.boxed());
}

#[test]
fn a_json_file_is_taken_as_it_can_be_brought_in_again_or_refused_with_its_lines() {
    drive("import_json", 400, records());
}

/// Records of good fields, some of them with values of another sort.
fn records() -> BoxedStrategy<Vec<u8>> {
    let names = [
        "tenantId",
        "customerId",
        "rentalId",
        "billingGroupId",
        "paymentId",
        "monthlyAmount",
        "startDate",
        "endDate",
        "billingDay",
        "rentalIds",
        "status",
        "currency",
        "contractLength",
        "cancelledAt",
        "email",
        "billingEmail",
        "invoiceRecipients",
        "company",
        "billingAddress",
        "notes",
        "idempotencyKey",
        "billingPeriod",
        "subtotal",
        "taxAmount",
        "total",
        "taxRate",
        "lineItems",
        "dueDate",
        "paidAt",
        "createdAt",
        "name",
        "timeZone",
        "runAt",
        "tax",
        "billingCycle",
        "address",
        "electronicAddress",
        "invoiceNumberFormat",
        "productName",
        "serialNumber",
        "a\nb",
    ];
    let value = prop_oneof![
        select(vec![
            "\"R1\"",
            "\"C1\"",
            "\"T\"",
            "12.50",
            "\"99.99\"",
            "15",
            "0",
            "null",
            "[]",
            "{}",
            "true",
            "\"EUR\"",
            "\"JPY\"",
            "\"active\"",
            "\"cancelled\"",
            "\"2026-02-28\"",
            "\"2026-01-31T23:30:00-11:00\"",
            "\"2026-07\"",
            "\"06:00\"",
            "\"UTC\"",
            "\"a@b.example\"",
            "[\"a@b.example\"]",
            "[\"R1\", \"R2\"]",
            "{\"city\": \"Bonn\", \"country\": \"DE\"}",
            "{\"fixedDay\": 5}",
            "{\"mode\": \"inclusive\", \"rate\": 7.5}",
            "[{\"rentalId\": \"R1\", \"amount\": 12.50}]",
            "1e2"
        ])
        .prop_map(str::to_owned),
        any::<i32>().prop_map(|number| number.to_string()),
        ".{0,12}".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let fields = prop::collection::vec((select(names.to_vec()), value), 1..12);
    let good = select(vec![
        r#""rentalId": "R1", "customerId": "C1", "monthlyAmount": 12.5, "startDate": "2026-01-31""#,
        r#""billingGroupId": "G1", "customerId": "C1", "billingDay": 15"#,
        r#""customerId": "C1", "company": "ACME""#,
        r#""paymentId": "P1", "customerId": "C1", "rentalId": "R1", "billingPeriod": "2026-01", "subtotal": 12.5"#,
        r#""tenantId": "U", "name": "Shop", "currency": "EUR", "timeZone": "Asia/Tokyo""#,
        r#""x": 1"#,
    ]);
    let record = (good, fields).prop_map(|(good, fields)| {
        let fields = fields.iter().filter(|(name, _)| !good.contains(&format!("\"{name}\"")));
        let fields: Vec<String> =
            fields.map(|(name, value)| format!(", {}: {value}", serde_json::Value::from(*name))).collect();
        format!("{{{good}{}}}", fields.concat())
    });
    let between = select(vec!["\n", ",", ",\n"]);
    (prop::collection::vec(record, 1..4), between)
        .prop_map(|(records, between)| match between {
            "\n" => records.join(between).into_bytes(),
            _ => format!("[{}]", records.join(between)).into_bytes(),
        })
        .boxed()
}

#[test]
fn a_csv_file_is_taken_as_it_can_be_brought_in_again_or_refused_with_its_lines() {
    let header = select(vec![
        "rentalId,customerId,monthlyAmount,startDate,billingGroupId,notes",
        "billingGroupId,customerId,billingDay,rentalIds,groupName,status",
        "customerId,company,email,billingAddress.city,billingAddress.country,invoiceRecipients",
        "paymentId,customerId,billingPeriod,subtotal,rentalId,dueDate",
        "tenantId,name,currency,timeZone,tax.mode,tax.rate",
    ]);
    let cell = prop_oneof![
        2 => select(vec!["R1", "C1", "G1", "12.50", "2026-01-31", "2026-01", "15", "EUR", "Asia/Tokyo", "R1;R2", "a@b.example", "", "null"])
            .prop_map(str::to_owned),
        1 => "[^\"\r\n,]{0,9}",
        1 => "[^\"]{0,9}".prop_map(|text| format!("\"{text}\"")),
    ];
    let rows = prop::collection::vec(prop::collection::vec(cell, 6), 1..4);
    let near = (header, rows, select(vec!["\n", "\r\n"])).prop_map(|(header, rows, end)| {
        let rows = rows.iter().map(|row| row.join(","));
        [header.to_owned()].into_iter().chain(rows).collect::<Vec<_>>().join(end).into_bytes()
    });
    drive("import_csv", 400, near.boxed());
}

#[test]
fn a_mutated_configuration_is_read_or_refused_by_name_and_tells_no_secret() {
    // The comments would take most of the hits.
    let lines = DEFAULT_TOML
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{}\n", line.trim_start_matches('#')));
    let default: String = lines.collect();
    drive("config", 400, mutated(Just(default.into_bytes()).boxed(), words(&seeds("config"))));
}

#[test]
fn any_names_and_words_make_a_message_with_just_the_headers_that_are_meant() {
    let text =
        || prop_oneof![any::<String>(), "[a-zä \r\n\\u{85}\\u{202e}:\"<>@=?]{0,120}", Just(String::new())].boxed();
    let address =
        || prop_oneof![4 => Just("a@b.example".to_owned()), 1 => "[a-c.@+_-]{1,12}", 1 => any::<String>()].boxed();
    let maybe = || prop_oneof![Just(String::new()), address()].boxed();
    let near = vec![text(), text(), text(), text(), address(), address(), maybe(), maybe(), text(), text()];
    drive("message", 400, joined(near));
}

#[test]
fn any_template_ends_and_lets_nothing_from_outside_in_as_markup() {
    let piece = select(vec![
        "{{ seller.name }}",
        "{{ buyer.lines[0] }}",
        "{{ total | upper }}",
        "{% for group in groups %}",
        "{% endfor %}",
        "{% if note %}",
        "{% endif %}",
        "{% include \"invoice.txt\" %}",
        "{% include \"invoice.html\" %}",
        "{% extends \"invoice.txt\" %}",
        "{% block a %}",
        "{% endblock %}",
        "{% import \"invoice.txt\" as t %}",
        "{{ t.f(seller.name) }}",
        "{% macro f(x) %}",
        "{{ x }}",
        "{% endmacro %}",
        "{% set x = seller.name %}",
        "{% set x %}",
        "{% endset %}",
        "{{ f(subject) }}",
        "{{ x | escape }}",
        "{% filter upper %}",
        "{% endfilter %}",
        "<p>",
        "é",
        "\n",
        "{% for a in range(90000) %}",
        "{{ debug() }}",
        "{{ invoice_number ~ '<b>' }}",
        "{{ '<' * 99 }}",
        "{{ words }}",
        "{{ self }}",
        "{% raw %}",
        "{{ seller | tojson }}",
        "{{ seller.name | replace('&', '') }}",
        "{{ [seller.name] | join('<') }}",
        "{{ seller.name | urlencode }}",
    ]);
    let template = || prop::collection::vec(piece.clone(), 0..6).prop_map(|pieces| pieces.concat()).boxed();
    drive("templates", 150, joined(vec![template(), template(), template(), template()]));
}

#[test]
fn any_text_is_no_cursor_or_leads_to_one_place_of_one_list() {
    let texts = joined(vec![
        "[A-Za-z0-9_-]{0,60}".boxed(),
        any::<String>().boxed(),
        ".{1,20}".boxed(),
        any::<String>().boxed(),
    ]);
    let near = (prop::collection::vec(any::<u8>(), 8), texts).prop_map(|(number, texts)| [number, texts].concat());
    drive("cursors", 400, near.boxed());
}

#[test]
fn any_query_is_read_or_refused_by_the_name_of_its_parameter() {
    let name = select([&PARAMETERS[..], &["nothing"]].concat());
    let value = prop_oneof![
        2 => select(vec!["1", "100", "0", "101", "asc", "desc", "updatedAt", "dueDate", "active", "paid", "business", "waiting",
            "2026-02-28", "%2B99999-01-01T00:00:00Z", "2026-01-31T23%3A30%3A00-11:00", "%00", "%FF", ""]).prop_map(str::to_owned),
        1 => "[^&]{0,9}",
        1 => "[A-Za-z0-9_-]{20,40}",
    ];
    let pairs = prop::collection::vec((name, value).prop_map(|(name, value)| format!("{name}={value}")), 0..6);
    drive("filters", 400, bytes_of(pairs.prop_map(|pairs| pairs.join("&"))));
}
