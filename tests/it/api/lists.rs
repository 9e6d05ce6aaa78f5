//! Pages: their parameters, their order, and that each row that stays is met exactly once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::api::ApiWorld;
use crate::support::on_both;

const GROUPS: &str = "/v1/billing-groups";

fn ids(page: &Value) -> Vec<String> {
    let groups = page["billingGroups"].as_array().expect("groups");
    groups.iter().map(|group| group["billingGroupId"].as_str().expect("an id").to_owned()).collect()
}

/// Groups made at a few instants, so that some share theirs.
async fn many_groups(api: &ApiWorld) {
    let groups: Vec<Value> = (0..23)
        .map(|n| {
            let (customer, status) = (if n % 3 == 0 { "D" } else { "C" }, if n % 5 == 0 { "inactive" } else { "active" });
            json!({"tenantId": "T", "billingGroupId": format!("m{n:02}"), "customerId": customer, "billingDay": 1, "status": status,
                   "createdAt": format!("2026-01-0{}T00:00:00Z", 1 + n / 5), "updatedAt": format!("2026-02-{:02}T00:00:00Z", 1 + (n * 7) % 20)})
        })
        .collect();
    api.world.import(groups.into()).await;
}

/// Walks a list to its end; tells all ids in order.
async fn walk(api: &ApiWorld, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.map_or(String::new(), |cursor| format!("&startAfter={cursor}"));
        let page = api.get(&format!("{GROUPS}?{query}{after}")).await.good(200);
        let on_page = ids(&page);
        assert_eq!(page["count"], on_page.len());
        all.extend(on_page);
        assert_eq!(page["hasMore"] == true, page["nextCursor"].is_string());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return all,
        }
    }
}

on_both! {
    async fn every_order_and_filter_meets_each_row_once_in_its_place(db: TestDb) {
        let api = ApiWorld::new(db).await;
        many_groups(&api).await;
        for (order, by) in [("", "createdAt"), ("&sortBy=updatedAt", "updatedAt"), ("&sortDir=asc", "createdAt"), ("&sortBy=updatedAt&sortDir=asc", "updatedAt")] {
            for filter in ["", "&customerId=D", "&status=inactive", "&customerId=C&status=active", "&customerId=none"] {
                let whole = api.get(&format!("{GROUPS}?limit=100{order}{filter}")).await.good(200);
                let mut sorted: Vec<&Value> = whole["billingGroups"].as_array().expect("groups").iter().collect();
                sorted.sort_by_key(|group| (group[by].as_str(), group["billingGroupId"].as_str()));
                if !order.contains("asc") { sorted.reverse(); }
                let sorted: Vec<String> = sorted.iter().map(|g| g["billingGroupId"].as_str().expect("an id").to_owned()).collect();
                assert_eq!(ids(&whole), sorted, "{order}{filter}");
                assert_eq!((&whole["hasMore"], &whole["nextCursor"]), (&json!(false), &Value::Null));
                for limit in [1, 4, 7] {
                    assert_eq!(walk(&api, &format!("limit={limit}{order}{filter}")).await, sorted, "{order}{filter} by {limit}");
                }
            }
        }
        // A last page that is full says that it is the last.
        let last = api.get(&format!("{GROUPS}?customerId=D&limit=8")).await.good(200);
        assert_eq!((&last["count"], &last["hasMore"], &last["nextCursor"]), (&json!(8), &json!(false), &Value::Null));
    }

    async fn what_comes_and_goes_meanwhile_moves_nobody(db: TestDb) {
        let api = ApiWorld::new(db).await;
        many_groups(&api).await;
        let before: BTreeSet<String> = walk(&api, "limit=100").await.into_iter().collect();
        let first = api.get(&format!("{GROUPS}?limit=6")).await.good(200);
        let cursor = first["nextCursor"].as_str().expect("a cursor");
        // The row that the cursor was taken from goes, with others; new ones come before and after it.
        let last = ids(&first).pop().expect("a row");
        let mut gone = vec![last, "m00".to_owned()];
        for id in &gone {
            api.delete(&format!("{GROUPS}/{id}")).await.good(200);
        }
        for (id, created) in [("new1", "2026-01-05T12:00:00Z"), ("new2", "2026-01-01T12:00:00Z")] {
            api.world.import(json!([{"tenantId": "T", "billingGroupId": id, "customerId": "C", "billingDay": 1, "createdAt": created}])).await;
        }
        let mut met = ids(&first);
        let mut next = Some(cursor.to_owned());
        while let Some(cursor) = next {
            let page = api.get(&format!("{GROUPS}?limit=6&startAfter={cursor}")).await.good(200);
            met.extend(ids(&page));
            next = page["nextCursor"].as_str().map(str::to_owned);
        }
        let once: BTreeSet<String> = met.iter().cloned().collect();
        assert_eq!(once.len(), met.len(), "{met:?}");
        gone.push("new1".into());
        let stayed: Vec<&String> = before.iter().filter(|id| !gone.contains(id)).collect();
        assert!(stayed.iter().all(|id| once.contains(*id)), "{met:?}");
        assert!(once.contains("new2"));
    }

    async fn a_parameter_that_is_wrong_is_named_and_an_unknown_one_ignored(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let long = format!("customerId={}", "x".repeat(129));
        for (query, detail) in [
            ("limit=0", "query.limit (invalid_limit)"),
            ("limit=101", "query.limit (invalid_limit)"),
            ("limit=-1", "query.limit (invalid_limit)"),
            ("limit=5.0", "query.limit (invalid_limit)"),
            ("limit=%2B5", "query.limit (invalid_limit)"),
            ("limit=5x", "query.limit (invalid_limit)"),
            ("limit=99999999999999999999", "query.limit (invalid_limit)"),
            ("limit=", "query.limit (too_small)"),
            ("limit", "query.limit (too_small)"),
            ("limit=5&limit=5", "query.limit (invalid_type)"),
            ("status=paused", "query.status (invalid_enum)"),
            ("status=", "query.status (too_small)"),
            ("sortBy=name", "query.sortBy (invalid_enum)"),
            ("sortDir=DESC", "query.sortDir (invalid_enum)"),
            ("customerId=a%00b", "query.customerId (invalid_string)"),
            (&long, "query.customerId (too_big)"),
            ("startAfter=G1", "query.startAfter (invalid_cursor)"),
            ("startAfter=%ff", "query.startAfter (invalid_cursor)"),
            ("startAfter=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "query.startAfter (invalid_cursor)"),
        ] {
            let told = api.get(&format!("{GROUPS}?{query}")).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [detail], "{query}");
        }
        let told = api.get(&format!("{GROUPS}?limit=0&status=x&sortBy=&startAfter=1")).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details().len(), 4);
        api.get(&format!("{GROUPS}?page=2&limit=005&__proto__=x&Limit=0")).await.good(200);
        // A cursor belongs to its filters and order; naming the default order changes nothing.
        many_groups(&api).await;
        let page = api.get(&format!("{GROUPS}?limit=2&customerId=C")).await.good(200);
        let cursor = page["nextCursor"].as_str().expect("a cursor");
        for other in ["", "customerId=D&", "customerId=C&status=active&", "customerId=C&sortDir=asc&", "customerId=C&sortBy=updatedAt&"] {
            api.get(&format!("{GROUPS}?{other}startAfter={cursor}")).await.expect(400, "VALIDATION_ERROR");
        }
        api.get(&format!("{GROUPS}?sortDir=desc&sortBy=createdAt&limit=7&customerId=C&startAfter={cursor}")).await.good(200);
    }

    async fn a_page_far_down_costs_what_the_first_costs(db: TestDb) {
        let api = ApiWorld::new(db).await;
        // The plan is what matters: a range of an index in the order of the page, without a sort.
        many_groups(&api).await;
        for (column, filter) in [("created_at", ""), ("updated_at", ""), ("created_at", " and status = 'active'")] {
            let sql = format!(
                "select billing_group_id from billing_groups where tenant_id = 'T'{filter} and ({column}, billing_group_id) < (5, 'x')
                 order by {column} desc, billing_group_id desc limit 51"
            );
            let plan = api.world.db.plan(&sql).await;
            let index = match (column, filter) {
                ("updated_at", _) => "billing_groups_updated",
                (_, "") => "billing_groups_created",
                _ => "billing_groups_status",
            };
            assert!(plan.contains(index) && !plan.to_lowercase().contains("sort") && !plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
