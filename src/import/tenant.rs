//! One tenant's record, made or changed by hand: by the same reading and the same checks as one in a file.

use chrono::{DateTime, Utc};

use crate::domain::money::format_percent;
use crate::store::Store;
use crate::store::import::TenantContent;

use super::{ImportError, ImportFile, ImportSummary, import_changing};
use crate::input::value::{self, Object, nearest};
use crate::input::{NOTES_MAX, Problem, text_fault};

/// Every field of a tenant's record but its id, as a CSV file would name it.
pub const TENANT_FIELDS: &[&str] = &[
    "name",
    "currency",
    "timeZone",
    "locale",
    "billingCycle",
    "billingCycle.fixedDay",
    "contractEnd",
    "proration",
    "billFrom",
    "paymentTermsDays",
    "tax.mode",
    "tax.rate",
    "invoiceNumberFormat",
    "firstInvoiceNumber",
    "catchUpDays",
    "maxArrears",
    "runAt",
    "legalName",
    "address",
    "address.company",
    "address.contactName",
    "address.streetAddress",
    "address.buildingInfo",
    "address.postalCode",
    "address.city",
    "address.locality",
    "address.adminArea",
    "address.country",
    "vatId",
    "taxNumber",
    "registration",
    "contactName",
    "phone",
    "email",
    "electronicAddress",
    "iban",
    "bic",
    "logo",
    "accentColor",
    "footer",
];

/// The fields that are numbers.
const NUMBERS: [&str; 6] =
    ["billingCycle.fixedDay", "paymentTermsDays", "tax.rate", "firstInvoiceNumber", "catchUpDays", "maxArrears"];

/// Who changes a tenant, from what he believes it to be; it ends as a conflict if the tenant is another by then.
#[derive(Debug, Clone)]
pub struct TenantChange {
    /// Absent where there is to be no such tenant yet.
    pub before: Option<TenantFields>,
    /// For the audit log.
    pub actor: String,
}

/// A tenant's fields with their values, in the order of [`TENANT_FIELDS`]; those that are not set are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantFields(Vec<(String, String)>);

impl TenantFields {
    /// The fields of a stored tenant.
    pub fn of(tenant: &TenantContent) -> Self {
        let mut fields = Self::default();
        let cycle = tenant.billing_fixed_day.map(|day| day.to_string());
        let text = |text: &str| Some(text.to_owned());
        let values = [
            ("name", text(&tenant.name)),
            ("currency", text(&tenant.currency)),
            ("timeZone", text(&tenant.time_zone)),
            ("locale", text(&tenant.locale)),
            ("billingCycle", if cycle.is_none() { text("startDate") } else { None }),
            ("billingCycle.fixedDay", cycle),
            ("contractEnd", text(&tenant.contract_end)),
            ("proration", text(&tenant.proration)),
            ("billFrom", tenant.bill_from.map(|date| date.to_string())),
            ("paymentTermsDays", Some(tenant.payment_terms_days.to_string())),
            ("tax.mode", text(&tenant.tax_mode)),
            ("tax.rate", Some(format_percent(tenant.tax_rate_ppm))),
            ("invoiceNumberFormat", text(&tenant.invoice_number_format)),
            ("firstInvoiceNumber", Some(tenant.first_invoice_number.to_string())),
            ("catchUpDays", Some(tenant.catch_up_days.to_string())),
            ("maxArrears", Some(tenant.max_arrears.to_string())),
            ("runAt", text(&tenant.run_at)),
            ("legalName", tenant.legal_name.clone()),
            ("vatId", tenant.vat_id.clone()),
            ("taxNumber", tenant.tax_number.clone()),
            ("registration", tenant.registration.clone()),
            ("contactName", tenant.contact_name.clone()),
            ("phone", tenant.phone.clone()),
            ("email", tenant.email.clone()),
            ("electronicAddress", tenant.electronic_address.clone()),
            ("iban", tenant.iban.clone()),
            ("bic", tenant.bic.clone()),
            ("logo", tenant.logo.as_ref().map(|sha256| format!("sha256:{sha256}"))),
            ("accentColor", tenant.accent_color.clone()),
            ("footer", tenant.footer.clone()),
        ];
        for (name, value) in values {
            fields.put(name, value.as_deref().unwrap_or_default());
        }
        let address = tenant.address.as_deref().unwrap_or_default();
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(address) {
            Ok(parts) => parts.iter().for_each(|(part, value)| {
                fields.put(&format!("address.{part}"), value.as_str().unwrap_or_default());
            }),
            Err(_) => fields.put("address", address),
        }
        fields
    }

    /// Sets a field, or with an empty value takes it out; what it holds, or is held by, goes.
    ///
    /// The error names the field that may be meant by one that does not exist.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if !TENANT_FIELDS.contains(&name) {
            let nearest = nearest(name, TENANT_FIELDS.iter().copied());
            return Err(format!("a tenant has no field '{name}'; the nearest is {nearest}"));
        }
        self.put(name, value);
        Ok(())
    }

    fn put(&mut self, name: &str, value: &str) {
        let holds = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        // An empty value takes nothing away from what holds it.
        self.0.retain(|(other, _)| other != name && !holds(name, other) && (value.is_empty() || !holds(other, name)));
        if !value.is_empty() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
        self.0.sort_by_key(|(name, _)| TENANT_FIELDS.iter().position(|field| field == name));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a field; empty if it is not set.
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    /// The fields as an object, those with a dot in objects of their own.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        for (name, text) in self.iter() {
            let number = NUMBERS.contains(&name).then(|| serde_json::from_str(text).ok()).flatten();
            let value = number.unwrap_or_else(|| serde_json::Value::from(text));
            match name.split_once('.') {
                None => drop(object.insert(name.to_owned(), value)),
                Some((outer, inner)) => {
                    object.entry(outer).or_insert_with(|| serde_json::json!({}))[inner] = value;
                }
            }
        }
        object.into()
    }

    /// Takes in the fields of an object that are a tenant's, and tells what is wrong with them; null takes a field out.
    pub fn merge(&mut self, object: &Object) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, value) in object {
            self.merge_field(name, value, &mut problems);
        }
        problems
    }

    fn merge_field(&mut self, name: &str, value: &value::Value, problems: &mut Vec<Problem>) {
        let is_field = TENANT_FIELDS.contains(&name);
        let has_parts = TENANT_FIELDS.iter().any(|f| f.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
        let is_number = NUMBERS.contains(&name);
        let mut wrong = |message: String, code| problems.push(Problem::new(name, message, code));
        match value {
            // Unknown fields mean nothing; an outer name is no field by itself, nor is one that is written with its dot.
            _ if !is_field && !has_parts => {}
            value::Value::Object(parts) if has_parts => {
                for (part, value) in parts {
                    self.merge_field(&format!("{name}.{part}"), value, problems);
                }
            }
            value::Value::Null => self.put(name, ""),
            value::Value::Text(text) if name == "logo" && text != self.get(name) => {
                wrong("is set with a file, by the command `billday tenant set --logo`".to_owned(), "invalid_value");
            }
            value::Value::Text(text) if is_field && !is_number => {
                match text_fault(text, NOTES_MAX, ["address", "footer"].contains(&name)) {
                    None => self.put(name, text),
                    Some((message, code)) => wrong(message, code),
                }
            }
            value::Value::Number(text) if is_number => self.put(name, text),
            other => {
                let expected = match (has_parts, is_number) {
                    (true, _) if is_field => "a text or an object",
                    (true, _) => "an object",
                    (false, true) => "a number",
                    (false, false) => "a text",
                };
                wrong(format!("is {}: expected {expected}", other.describe()), "invalid_type");
            }
        }
    }

    /// Brings the tenant in as one row of a file.
    pub async fn import(
        &self,
        store: &Store,
        tenant_id: &str,
        change: TenantChange,
        now: DateTime<Utc>,
    ) -> Result<ImportSummary, ImportError> {
        // What every tenant needs has a column even where it is empty, so that its absence is told as in any record.
        let needed = ["name", "currency", "timeZone"].iter().map(|name| (*name, self.get(name)));
        let others = self.iter().filter(|(name, _)| !["name", "currency", "timeZone"].contains(name));
        let (header, row): (Vec<&str>, Vec<&str>) =
            [("tenantId", tenant_id)].into_iter().chain(needed).chain(others).unzip();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = writer.write_record(header).and_then(|()| writer.write_record(row));
        let text = match (written, writer.into_inner()) {
            (Ok(()), Ok(bytes)) => bytes,
            (written, _) => {
                let why = written.err().map_or_else(|| "not written".to_owned(), |error| error.to_string());
                return Err(ImportError::Unreadable("the fields".to_owned(), std::io::Error::other(why)));
            }
        };
        let change = (tenant_id.to_owned(), change);
        import_changing(store, &[ImportFile::text("the fields", text)], None, Some(change), now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_takes_the_place_of_what_it_holds_or_is_held_by() {
        let mut fields = TenantFields::default();
        for (name, value) in [("address.city", "Bonn"), ("address.country", "DE"), ("billingCycle", "startDate")] {
            fields.set(name, value).unwrap();
        }
        fields.set("address", "Street 1").unwrap();
        fields.set("address.city", "").unwrap();
        fields.set("billingCycle.fixedDay", "5").unwrap();
        let expected = [("billingCycle.fixedDay", "5"), ("address", "Street 1")];
        assert_eq!(fields.iter().collect::<Vec<_>>(), expected);
        assert_eq!(fields.to_json().to_string(), r#"{"address":"Street 1","billingCycle":{"fixedDay":5}}"#);
        assert_eq!(fields.set("vat_id", "x").unwrap_err(), "a tenant has no field 'vat_id'; the nearest is vatId");
    }
}
