//! Seller and buyer as each invoice shows them (rule 24): on record, readable, and the buyer the payment's own customer.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use sqlx::FromRow;

use crate::domain::document::sha256_of;

use super::super::{Result, Session, dialect, on};
use super::Finding;
use super::numbers::Numbered;

/// Versions that are remembered at a time, so that memory stays flat.
const REMEMBERED_MAX: usize = 100_000;

/// What one version says of itself.
enum Body {
    Missing,
    Unreadable,
    Object { customer_id: Option<String>, logo: Option<String> },
}

/// The versions of one tenant that were read already, and what was found with them.
pub(super) struct Parties {
    tenant_id: String,
    read: HashMap<String, Body>,
    /// The pictures that sellers of these versions had, and are stored as they were.
    logos: HashSet<String>,
    unreadable: Finding,
    strange: Finding,
    changed_logo: Finding,
}

impl Parties {
    pub(super) fn new() -> Self {
        Self {
            tenant_id: String::new(),
            read: HashMap::new(),
            logos: HashSet::new(),
            unreadable: Finding::new(
                "party_unreadable",
                "the seller and the buyer of each payment are on record and can be read",
            ),
            strange: Finding::new("buyer_differs", "the buyer on each invoice is its payment's customer"),
            changed_logo: Finding::new("logo_differs", "the logo on each invoice is stored as it was"),
        }
    }

    pub(super) fn findings(self) -> [Finding; 3] {
        [self.unreadable, self.strange, self.changed_logo]
    }

    fn check(&mut self, invoice: &Numbered) {
        for (role, party_id) in [("seller", &invoice.seller_party), ("buyer", &invoice.buyer_party)] {
            let body = party_id.as_ref().and_then(|id| self.read.get(id)).unwrap_or(&Body::Missing);
            let shown = party_id.as_deref().unwrap_or("none");
            match body {
                Body::Missing => self.unreadable.note(|| format!("{invoice}, {role} {shown} is not on record")),
                Body::Unreadable => self.unreadable.note(|| format!("{invoice}, {role} {shown} is no JSON object")),
                Body::Object { logo: Some(logo), .. } if role == "seller" && !self.logos.contains(logo) => {
                    self.changed_logo.note(|| format!("{invoice}, logo sha256:{logo} is not on record as it was"));
                }
                Body::Object { customer_id, .. }
                    if role == "buyer" && customer_id.as_ref() != Some(&invoice.customer_id) =>
                {
                    let (of, to) = (&invoice.customer_id, customer_id.as_deref().unwrap_or("none"));
                    self.strange.note(|| format!("{invoice}, of customer {of}, is made out to customer {to}"));
                }
                Body::Object { .. } => {}
            }
        }
    }
}

impl Session {
    /// Checks the invoices of one tenant that billday made.
    pub(super) async fn check_parties(&mut self, invoices: &[Numbered], parties: &mut Parties) -> Result<()> {
        let Some(first) = invoices.first() else { return Ok(()) };
        if parties.tenant_id != first.tenant_id || parties.read.len() > REMEMBERED_MAX {
            parties.tenant_id.clone_from(&first.tenant_id);
            parties.read.clear();
            parties.logos.clear();
        }
        let ours = || invoices.iter().filter(|invoice| invoice.is_ours());
        let ids = ours().flat_map(|invoice| [&invoice.seller_party, &invoice.buyer_party]).flatten();
        let new: HashSet<&String> = ids.filter(|id| !parties.read.contains_key(*id)).collect();
        let new: Vec<String> = new.into_iter().cloned().collect();
        if !new.is_empty() {
            for (party_id, body) in self.party_bodies(&first.tenant_id, &new).await? {
                parties.read.insert(party_id, read(&body));
            }
            let named = new.iter().filter_map(|id| match parties.read.get(id) {
                Some(Body::Object { logo, .. }) => logo.clone(),
                _ => None,
            });
            let wanted = named.map(|logo| (first.tenant_id.clone(), logo)).collect();
            let found = self.logos(wanted).await?.into_values();
            parties.logos.extend(found.filter(|logo| sha256_of(&logo.bytes) == logo.sha256).map(|logo| logo.sha256));
        }
        ours().for_each(|invoice| parties.check(invoice));
        Ok(())
    }

    async fn party_bodies(&mut self, tenant_id: &str, ids: &[String]) -> Result<Vec<(String, String)>> {
        Ok(on!(self, |conn| dialect::with_keys::<Db>(
            "select party_id, body from parties where tenant_id = $2 and party_id in $keys",
            ids
        )
        .bind(tenant_id)
        .try_map(|row| <(String, String)>::from_row(&row))
        .fetch_all(conn)
        .await?))
    }
}

fn read(body: &str) -> Body {
    match serde_json::from_str::<Map<String, Value>>(body) {
        Ok(body) => {
            let text = |key| body.get(key).and_then(Value::as_str).map(str::to_owned);
            Body::Object { customer_id: text("customerId"), logo: text("logo") }
        }
        Err(_) => Body::Unreadable,
    }
}
