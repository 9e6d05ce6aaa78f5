//! A bucket that speaks S3.

use std::sync::Arc;

use anyhow::{Context, bail};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

/// How long one request may take; with all its tries it is much shorter than a claim of mails lasts.
const REQUEST_MAX: &str = "20 seconds";
const TRIES_MAX: usize = 2;

/// Opens `BUCKET/PREFIX`; who may, and where it is, the environment says, as for every program that uses S3.
pub(super) fn open(place: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        bail!("documents.store should be s3://BUCKET/PREFIX and names no bucket");
    }
    // An error says that somebody chose before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_MAX)
        .with_retry(RetryConfig { max_retries: TRIES_MAX, ..RetryConfig::default() })
        .build()
        .context("documents.store cannot be used")?;
    Ok(Arc::new(PrefixStore::new(bucket, prefix)))
}
