//! `Idempotency-Key`: a request that comes again is answered again, and its change is made once.

use std::sync::Arc;

use axum::http::HeaderMap;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::change::{self, By, NotMade, Refusal, RefusalKind, settled, transact};
use crate::clock;
use crate::input::Problem;
use crate::store::replay::{KeptAnswer, ReplayKey};
use crate::store::{Session, StoreError, TxFuture};

use super::call::{Answer, Call};
use super::error::ApiError;

const HEADER: &str = "idempotency-key";
/// How long an answer is kept, in microseconds: 30 days.
const KEPT_FOR: i64 = 30 * 24 * 60 * 60 * 1_000_000;

/// The work of a change: its answer, made inside the transaction so that it can be kept with it.
pub(super) type ChangeFuture<'a> = TxFuture<'a, Result<Answer, Refusal>>;

/// The key of a request, if it has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.as_bytes();
    let fits = (1..=255).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    if !fits || values.next().is_some() {
        let message = "should be one text of 1 to 255 visible ASCII characters";
        return Err(Problem::new("header.Idempotency-Key", message, "invalid_string"));
    }
    Ok(Some(String::from_utf8_lossy(value).into_owned()))
}

/// Makes a change in one transaction; with a key, once for all requests that are the same.
pub(super) async fn once<F>(call: &Call, idempotency_key: Option<String>, work: F) -> Result<Answer, ApiError>
where
    F: for<'a> Fn(&'a mut Session) -> ChangeFuture<'a> + Clone + Send + Sync + 'static,
{
    let Some(idempotency_key) = idempotency_key else {
        return Ok(transact(&call.api.store, work).await?);
    };
    let key = Arc::new(ReplayKey {
        tenant_id: call.by.tenant_id.clone(),
        key_id: call.key_id.clone(),
        path: call.path.clone(),
        idempotency_key,
    });
    let body_hash = HEXLOWER.encode(&Sha256::digest(&call.body));
    let by = call.by.clone();
    let answer = transact(&call.api.store, move |tx: &mut Session| {
        let (key, body_hash, by, work) = (key.clone(), body_hash.clone(), by.clone(), work.clone());
        Box::pin(async move { settled(replayed(tx, &key, &body_hash, &by, work).await) })
            as TxFuture<'_, Result<Answer, Refusal>>
    });
    Ok(answer.await?)
}

async fn replayed<F>(
    session: &mut Session,
    key: &ReplayKey,
    body_hash: &str,
    by: &By,
    work: F,
) -> Result<Answer, NotMade>
where
    F: for<'a> Fn(&'a mut Session) -> ChangeFuture<'a> + Send + Sync,
{
    let now = clock::micros(by.now);
    if let Some(kept) = session.claim_replay(key, body_hash, now, now - KEPT_FOR).await? {
        if kept.body_hash != body_hash {
            let message = "the Idempotency-Key was used before, with another body";
            return Err(Refusal::new(RefusalKind::Conflict, "IDEMPOTENCY_KEY_REUSED", message).into());
        }
        let status = u16::try_from(kept.status).map_err(|_| broken(kept.status))?;
        let answer = Answer::of_json(status, kept.answer);
        return Ok(match kept.etag {
            Some(etag) => answer.with_etag(etag),
            None => answer,
        });
    }
    let made = work(session).await?;
    match &made {
        Ok(answer) => {
            let kept = KeptAnswer {
                body_hash: body_hash.to_owned(),
                status: i64::from(answer.status),
                etag: answer.etag.clone(),
                answer: String::from_utf8_lossy(&answer.body).into_owned(),
            };
            session.keep_answer(key, &kept).await?;
        }
        Err(_) => session.release_replay(key).await?,
    }
    made.map_err(change::NotMade::from)
}

fn broken(status: i64) -> StoreError {
    anyhow::anyhow!("an answer that was kept has the status {status}").into()
}
