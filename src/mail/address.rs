//! Which addresses mail can be sent to.

use lettre::Address;

use crate::domain::message::clean;

use super::MailError;

pub(super) fn parse_address(address: &str) -> Result<Address, MailError> {
    let refused = |reason: &str| MailError::Refused(format!("the address {:?} {reason}", clean(address, 254)));
    check_address(address).map_err(refused)?;
    address.parse().map_err(|error: lettre::address::AddressError| refused(&format!("cannot be used: {error}")))
}

/// Longest address that mail servers take, in bytes.
const ADDRESS_MAX: usize = 254;
/// And what stands before the @ in it.
const USER_MAX: usize = 64;

/// Whether mail can be sent to an address; the reason reads as the end of a sentence that names it.
///
/// Stricter than the standard, which allows what no customer has and what some mail servers take for an option or a route.
pub fn check_address(address: &str) -> Result<(), &'static str> {
    if address.len() > ADDRESS_MAX {
        return Err("is longer than 254 bytes");
    }
    let Some((user, domain)) = address.split_once('@') else { return Err("has no @") };
    if domain.contains('@') {
        return Err("has more than one @");
    }
    if user.is_empty() || domain.is_empty() {
        return Err("has nothing on one side of the @");
    }
    if user.len() > USER_MAX {
        return Err("has more than 64 bytes before the @");
    }
    if !user.is_ascii() {
        return Err("has characters before the @ that not every mail server takes");
    }
    if address.starts_with('-') {
        return Err("begins with -");
    }
    let is_user_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    if !user.bytes().all(is_user_byte) || user.split('.').any(str::is_empty) {
        return Err("is not written as an address before the @");
    }
    check_domain(domain)
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    if !domain.is_ascii() {
        return Err("has a domain with characters that not every mail server takes: write it in its xn-- form");
    }
    if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
        return Err("names a machine by number: a domain is needed");
    }
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !domain.split('.').all(is_label) {
        return Err("has no valid domain after the @");
    }
    if !domain.contains('.') && !domain.eq_ignore_ascii_case("localhost") {
        return Err("has a domain without a dot");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_is_refused_with_the_reason() {
        let too_long = format!("{}@b.example", "a".repeat(250));
        let long_user = format!("{}@b.example", "a".repeat(65));
        for (address, reason) in [
            ("anna.example", "has no @"),
            ("a@b@c.example", "has more than one @"),
            ("@b.example", "has nothing on one side of the @"),
            ("a@", "has nothing on one side of the @"),
            ("ännä@b.example", "has characters before the @ that not every mail server takes"),
            ("-oQ@b.example", "begins with -"),
            ("a b@c.example", "is not written as an address before the @"),
            ("\"a\"@c.example", "is not written as an address before the @"),
            ("a..b@c.example", "is not written as an address before the @"),
            ("Anna <a@b.example>", "is not written as an address before the @"),
            ("a@[127.0.0.1]", "names a machine by number: a domain is needed"),
            ("a@127.0.0.1", "names a machine by number: a domain is needed"),
            ("a@host", "has a domain without a dot"),
            ("a@b..example", "has no valid domain after the @"),
            ("a@-b.example", "has no valid domain after the @"),
            ("a@b.example\r\nBcc: c@d.example", "has more than one @"),
            ("a@b.example\r\n", "has no valid domain after the @"),
            (&too_long, "is longer than 254 bytes"),
            (&long_user, "has more than 64 bytes before the @"),
        ] {
            assert_eq!(check_address(address), Err(reason), "{address}");
        }
        for address in ["a@b.example", "first.last+tag@sub.b-c.example", "a@localhost", "a@xn--bcher-kva.example"] {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
    }
}
