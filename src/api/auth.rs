//! API keys: `bw_<id>_<secret>`. The id finds the key, the secret's hash proves it; the secret itself is kept nowhere.

use axum::http::{HeaderMap, header};
use chrono::NaiveDate;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::store::StoreError;

use super::Api;
use super::error::ApiError;

const PREFIX: &str = "bw_";
const ID_LENGTH: usize = 8;
/// 43 characters of 62 hold as much as 32 random bytes.
const SECRET_LENGTH: usize = 43;

const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Ids are read out loud and typed: without capitals.
const ID_ALPHABET: &[u8] = ALPHABET.split_at(36).0;

/// A new key: what is shown once, and what is kept.
pub struct Token {
    pub key_id: String,
    /// The whole token, shown to its user and to nobody else.
    pub secret: String,
    pub secret_hash: String,
}

/// Makes a key from the system's randomness.
pub fn new_token() -> anyhow::Result<Token> {
    let key_id = random_text(ID_ALPHABET, ID_LENGTH)?;
    let secret = random_text(ALPHABET, SECRET_LENGTH)?;
    Ok(Token { secret_hash: hash(&secret), secret: format!("{PREFIX}{key_id}_{secret}"), key_id })
}

fn random_text(alphabet: &[u8], length: usize) -> anyhow::Result<String> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    // Bytes beyond the largest multiple of the alphabet would make its first characters likelier.
    let fair = 256 - 256 % alphabet.len();
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let fair_bytes = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        text.extend(fair_bytes.take(length - text.len()).map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    Ok(text)
}

fn hash(secret: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(secret.as_bytes()))
}

/// Stands in for what is no key: no key has this id.
const NOBODYS: (&str, &str) = ("", "");

/// Who asks, for which tenant.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub key_id: String,
    pub tenant_id: String,
    pub read_only: bool,
}

/// Finds out who asks; the same answer, whatever the reason, to whoever may not know which tenants exist.
pub(super) async fn authenticate(api: &Api, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = bearer(headers)?;
    // Looked up and compared also where there is no such key, so that the time taken tells nothing.
    let (key_id, secret) = split(&token).unwrap_or(NOBODYS);
    let tenant_id = tenant_id(headers);
    let found = find(api, key_id, tenant_id.unwrap_or_default()).await?;
    let kept = found.as_ref().map_or("", |key| key.secret_hash.as_str());
    let proved = bool::from(hash(secret).as_bytes().ct_eq(kept.as_bytes()));
    let key = found.filter(|_| proved).ok_or_else(ApiError::invalid_token)?;
    let today: NaiveDate = api.clock.now().date_naive();
    if key.revoked_at.is_some() || key.expires_on.is_some_and(|last| last < today) {
        return Err(ApiError::invalid_token());
    }
    match tenant_id {
        Some(tenant_id) if key.allowed => {
            Ok(Caller { key_id: key_id.to_owned(), tenant_id: tenant_id.to_owned(), read_only: key.read_only })
        }
        _ => Err(ApiError::no_tenant_access()),
    }
}

async fn find(api: &Api, key_id: &str, tenant_id: &str) -> Result<Option<crate::store::keys::KeyRow>, StoreError> {
    let mut session = api.store.read().await?;
    let key = session.find_key(key_id, tenant_id).await?;
    session.end().await;
    Ok(key)
}

/// The token of the one `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(ApiError::auth_required)?.as_bytes();
    let scheme_ends = value.iter().position(|b| *b == b' ').ok_or_else(ApiError::auth_required)?;
    let (scheme, token) = value.split_at(scheme_ends);
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Err(ApiError::auth_required());
    }
    if values.next().is_some() {
        return Err(ApiError::invalid_token());
    }
    String::from_utf8(token.to_vec()).map_err(|_| ApiError::invalid_token())
}

fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret)).then_some((id, secret))
}

/// The tenant that is named, once.
fn tenant_id(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all("tenant-id").iter();
    let value = values.next()?;
    let id = std::str::from_utf8(value.as_bytes()).ok()?;
    (values.next().is_none() && !id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_id_and_a_secret_that_only_its_hash_remembers() {
        let token = new_token().unwrap();
        let (id, secret) = split(&token.secret).unwrap();
        assert_eq!((id, hash(secret)), (token.key_id.as_str(), token.secret_hash.clone()));
        assert!(!token.secret_hash.contains(secret));
        assert_ne!(new_token().unwrap().secret, token.secret);
    }

    #[test]
    fn every_character_of_the_alphabet_is_about_as_likely() {
        let text = random_text(ALPHABET, 62_000).unwrap();
        for character in ALPHABET {
            let count = text.bytes().filter(|b| b == character).count();
            assert!((800..1200).contains(&count), "{}: {count}", char::from(*character));
        }
    }

    #[test]
    fn what_is_no_token_is_taken_for_none() {
        let good = format!("bw_abcd1234_{}", "x".repeat(43));
        assert!(split(&good).is_some());
        for bad in
            ["", "bw_", "bw__", "pk_live_1", &good[1..], &good[..50], &format!("{good}x"), &good.replace('x', "-")]
        {
            assert!(split(bad).is_none(), "{bad}");
        }
    }
}
