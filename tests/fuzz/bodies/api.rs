//! Queries of lists: a typed query or a refusal that names the parameter, and cursors that lead to one place in one list.

use billday::api::{ListQuery, read_list_query};
use billday::change::{Refusal, RefusalKind};
use billday::store::page::Position;
use chrono_tz::Tz;

use super::{is_one_line, number, texts};

/// Every list, with a filter that it has and others lack, if it has one.
const LISTS: [(&str, Option<&str>); 7] = [
    ("listBillingGroups", Some("customerId")),
    ("listPayments", Some("rentalId")),
    ("listCustomers", Some("email")),
    ("listSubscriptions", Some("orderId")),
    ("listRuns", None),
    ("listOutbox", Some("paymentId")),
    ("listAuditLog", Some("objectId")),
];

/// Every parameter that some list has.
pub const PARAMETERS: [&str; 18] = [
    "limit",
    "startAfter",
    "sortBy",
    "sortDir",
    "status",
    "customerId",
    "rentalId",
    "billingGroupId",
    "dueDateFrom",
    "dueDateTo",
    "customerType",
    "email",
    "orderId",
    "serialNumber",
    "state",
    "paymentId",
    "objectId",
    "tenantId",
];

fn read(list: &str, tenant: &str, query: &str) -> Result<ListQuery, Refusal> {
    read_list_query(list, tenant, Tz::Pacific__Kiritimati, query).expect(list)
}

/// Any query string.
pub fn filters(data: &[u8]) {
    let query = String::from_utf8_lossy(data);
    for (list, _) in LISTS {
        let known = format!("{query}&unknown=%00");
        match (read(list, "T", &query), read(list, "T", &known)) {
            (Ok(read), Ok(again)) => {
                assert!((2..=101).contains(&read.page().limit), "{query}");
                assert_eq!(
                    format!("{read:?}"),
                    format!("{again:?}"),
                    "an unknown parameter changed what {query} means"
                );
                assert!(is_one_line(&read.filters), "{}", read.filters);
            }
            (Err(refusal), Err(again)) => {
                assert_eq!(refusal, again);
                assert_eq!((refusal.kind, refusal.code), (RefusalKind::Invalid, "VALIDATION_ERROR"));
                assert!(!refusal.details.is_empty() && is_one_line(&refusal.message), "{refusal:?}");
                for problem in &refusal.details {
                    let name = problem.path.strip_prefix("query.").expect("a parameter");
                    assert!(PARAMETERS.contains(&name), "{problem:?}");
                    assert!(!problem.message.is_empty() && is_one_line(&problem.message), "{problem:?}");
                }
            }
            (read, again) => panic!("an unknown parameter changed what {query} means: {read:?} and {again:?}"),
        }
    }
}

/// Any text as a cursor; and a cursor of any place, which leads there and nowhere else.
pub fn cursors(mut data: &[u8]) {
    let value = (number(&mut data) << 32 | number(&mut data)) as i64;
    let [cursor, tenant, filter, id] = texts(data);
    for (n, (list, _)) in LISTS.iter().enumerate() {
        match read(list, &tenant, &format!("startAfter={}", encoded(&cursor))) {
            Ok(query) => {
                let after = query.page().after.clone().expect("a place");
                assert_eq!(query.cursor(&after), cursor);
            }
            Err(refusal) => {
                let paths: Vec<&str> = refusal.details.iter().map(|problem| problem.path.as_str()).collect();
                assert_eq!(paths, ["query.startAfter"]);
            }
        }
        made(n, &tenant, &filter, &Position { value, id: id.clone() });
    }
}

fn made(n: usize, tenant: &str, filter: &str, position: &Position) {
    let (list, name) = LISTS[n];
    let filtered = |filter: &str| name.map_or_else(String::new, |name| format!("&{name}={}", encoded(filter)));
    // Filters that are refused anyway make no cursor.
    let Ok(query) = read(list, tenant, &filtered(filter)) else { return };
    let after = format!("startAfter={}", query.cursor(position));
    let again = read(list, tenant, &format!("limit=1&{after}{}", filtered(filter))).expect("its own list");
    assert_eq!(again.page().after.as_ref(), Some(position));
    let refused = |list: &str, tenant: &str, query: &str| {
        let refusal = read(list, tenant, query).expect_err("a cursor leads into another list");
        assert_eq!(refusal.details[0].path, "query.startAfter");
    };
    refused(list, &format!("{tenant}x"), &format!("{after}{}", filtered(filter)));
    refused(list, tenant, &format!("sortDir=asc&{after}{}", filtered(filter)));
    refused(LISTS[(n + 1) % LISTS.len()].0, tenant, &after);
    if name.is_some() && filter != "another" {
        refused(list, tenant, &format!("{after}{}", filtered("another")));
        refused(list, tenant, &after);
    }
}

/// A value as a query holds it.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
