//! The versions of seller and buyer that invoices show: JSON with the public API's keys, any of which may be absent.

use std::borrow::Cow;

use serde_json::Value;

use crate::domain::EInvoice;
use crate::domain::brand::{Brand, Colour};
use crate::domain::document::{Address, AddressParts, Buyer, Seller};

/// A party's version as it is kept; nothing where there is none.
pub(crate) fn body(text: Option<&str>) -> serde_json::Result<Value> {
    text.map_or(Ok(Value::Null), serde_json::from_str)
}

/// The hash of the picture that a seller's version names.
pub(crate) fn logo(body: &Value) -> Option<String> {
    text(body, "logo")
}

/// Reads a seller, without its logo; one without a name of its own has the tenant's.
pub(crate) fn seller(body: &Value, tenant_name: &str) -> Seller {
    let name = text(body, "legalName").or_else(|| text(body, "name"));
    Seller {
        name: name.unwrap_or_else(|| tenant_name.to_owned()),
        address: address(&part(body, "address")),
        vat_id: text(body, "vatId"),
        tax_number: text(body, "taxNumber"),
        registration: text(body, "registration"),
        contact_name: text(body, "contactName"),
        phone: text(body, "phone"),
        email: text(body, "email"),
        electronic_address: text(body, "electronicAddress"),
        iban: text(body, "iban"),
        bic: text(body, "bic"),
        brand: Brand {
            logo: None,
            accent: text(body, "accentColor").as_deref().and_then(Colour::parse),
            footer: text(body, "footer"),
        },
    }
}

/// Reads a buyer; a company comes before the person who works there.
pub(crate) fn buyer(body: &Value) -> Buyer {
    let billing_address = &part(body, "billingAddress");
    let person = joined([text(body, "firstName"), text(body, "lastName")]);
    let company = text(body, "company").or_else(|| text(billing_address, "company"));
    Buyer {
        name: company.or_else(|| person.clone()).or_else(|| text(billing_address, "contactName")),
        person,
        address: address(billing_address),
        vat_id: text(body, "vatId"),
        registration: text(body, "registration"),
        email: text(body, "billingEmail").or_else(|| text(body, "email")),
        e_invoice: text(body, "eInvoice").and_then(|word| EInvoice::parse(&word)).unwrap_or_default(),
        own_electronic_address: text(body, "electronicAddress"),
        reference: text(body, "buyerReference"),
    }
}

/// An object in a party, or a text. Early versions of a party have the object written into a text.
fn part<'a>(body: &'a Value, key: &str) -> Cow<'a, Value> {
    let part = &body[key];
    let written = part.as_str().and_then(|text| serde_json::from_str(text).ok());
    written.filter(Value::is_object).map_or(Cow::Borrowed(part), Cow::Owned)
}

/// An address: an object with parts, or a text with line breaks.
fn address(address: &Value) -> Address {
    if let Value::String(lines) = address {
        return Address::Lines(
            lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        );
    }
    let field = |key| text(address, key);
    Address::Parts(AddressParts {
        company: field("company"),
        contact: field("contactName"),
        street: field("streetAddress"),
        building: field("buildingInfo"),
        post_code: field("postalCode"),
        city: field("locality").or_else(|| field("city")),
        region: field("adminArea"),
        country: field("country"),
    })
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn joined(parts: [Option<String>; 2]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_an_object_or_a_text() {
        let object = json!({"contactName": "Anna", "streetAddress": "Street 1", "buildingInfo": "2nd floor",
            "postalCode": "10115", "city": "Berlin", "country": "DE"});
        assert_eq!(address(&object).lines_below("Anna"), ["Street 1", "2nd floor", "10115 Berlin", "DE"]);
        assert_eq!(address(&json!("Street 1\n\n 10115 Berlin ")).lines_below(""), ["Street 1", "10115 Berlin"]);
        assert_eq!(address(&Value::Null), Address::default());
    }

    #[test]
    fn a_buyer_is_the_company_and_greeted_as_the_person() {
        let body = json!({"company": "ACME", "firstName": "Anna", "lastName": "Smith",
            "billingAddress": {"company": "ACME", "city": "Berlin"}});
        let buyer = buyer(&body);
        assert_eq!((buyer.name.as_deref(), buyer.person.as_deref()), (Some("ACME"), Some("Anna Smith")));
        assert_eq!(buyer.address.lines_below("ACME"), ["Berlin"]);
    }

    #[test]
    fn an_address_written_as_json_into_a_text_is_the_same_address() {
        let address = json!({"company": "ACME", "streetAddress": "Street 1", "city": "Berlin"});
        for address in [address.clone(), address.to_string().into()] {
            let body = json!({"billingAddress": address, "address": address});
            assert_eq!(buyer(&body).name.as_deref(), Some("ACME"));
            assert_eq!(buyer(&body).address.lines_below("ACME"), ["Street 1", "Berlin"]);
            assert_eq!(seller(&body, "Shop").address.lines_below("Shop"), ["ACME", "Street 1", "Berlin"]);
        }
    }

    #[test]
    fn a_party_that_says_nothing_is_read_too() {
        assert_eq!(buyer(&json!({})), Buyer::default());
        assert_eq!(seller(&Value::Null, "Shop").name, "Shop");
    }
}
