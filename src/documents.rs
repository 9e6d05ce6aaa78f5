//! Where documents are kept: files in a folder, or objects in a bucket; the only place that knows object_store.
//!
//! A document is there whole or not at all, and on the disk before it is said to be there. Putting the same twice does no harm.

#[cfg(feature = "s3")]
mod bucket;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};
use tokio::task::{JoinError, JoinSet};

use crate::domain::document::{KeptDocument, sha256_of};

/// A place for documents, as the setting `documents.store` names it.
#[derive(Debug, Clone)]
pub struct DocumentStore {
    name: String,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    Bucket(Arc<dyn ObjectStore>),
}

/// Why a document cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    /// Nothing can be read there now.
    #[error("{0}")]
    Unreachable(String),
    /// This one is gone, or is not what was put there.
    #[error("{0}")]
    Lost(String),
}

/// What became of a document, by its place.
type Written = Result<(), (String, Error)>;

/// Documents that are written at a time.
const WRITES_MAX: usize = 8;

impl DocumentStore {
    /// Takes a folder or `s3://BUCKET/PREFIX`; nothing is reached or created yet.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let place = match name.split_once("://") {
            None => Place::Folder(PathBuf::from(name)),
            #[cfg(feature = "s3")]
            Some(("s3", bucket)) => Place::Bucket(bucket::open(bucket)?),
            #[cfg(not(feature = "s3"))]
            Some(("s3", _)) => {
                bail!("documents.store {name:?} needs a build with the feature s3: `cargo install --features s3`")
            }
            Some(_) => bail!("documents.store should be a folder or s3://BUCKET/PREFIX, not {name:?}"),
        };
        Ok(Self { name: name.to_owned(), place })
    }

    /// Keeps documents, each at its place; one that is there is replaced. After an error any of them may be there.
    pub async fn put(&self, documents: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        match &self.place {
            Place::Folder(folder) => {
                fs::create_dir_all(folder).map_err(|error| self.cannot("create the folder", &error))?;
            }
            #[cfg(feature = "s3")]
            Place::Bucket(_) => {}
        }
        let store = self.reach()?;
        let mut writes = JoinSet::new();
        for (place, bytes) in documents {
            if writes.len() == WRITES_MAX {
                self.written(writes.join_next().await)?;
            }
            let store = Arc::clone(&store);
            writes.spawn(async move {
                let put = store.put(&Path::from(place.as_str()), bytes.into()).await;
                put.map(|_| ()).map_err(|error| (place, error))
            });
        }
        while !writes.is_empty() {
            self.written(writes.join_next().await)?;
        }
        Ok(())
    }

    fn written(&self, written: Option<Result<Written, JoinError>>) -> Result<(), String> {
        match written {
            Some(Ok(Err((place, error)))) => Err(self.cannot(&format!("keep {place}"), &error)),
            Some(Err(error)) => Err(self.cannot("keep a document", &error)),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }

    /// The bytes of a document, equal to those that were put there.
    pub async fn get(&self, kept: &KeptDocument) -> Result<Vec<u8>, DocumentFault> {
        let at = self.whole_place(kept);
        let store = self.reach().map_err(DocumentFault::Unreachable)?;
        let found = async { store.get(&Path::from(kept.place.as_str())).await?.bytes().await }.await;
        let bytes = found.map_err(|error| match error {
            Error::NotFound { .. } => {
                DocumentFault::Lost(format!("{at} is not there; it had the sha256 {}", kept.sha256))
            }
            error => DocumentFault::Unreachable(self.cannot("read a document", &error)),
        })?;
        match sha256_of(&bytes) {
            hash if hash == kept.sha256 => Ok(bytes.into()),
            hash => Err(DocumentFault::Lost(format!(
                "{at} is not as it was sent: its sha256 is {hash} and was {}",
                kept.sha256
            ))),
        }
    }

    /// Where a document is, for people.
    pub fn whole_place(&self, kept: &KeptDocument) -> String {
        format!("{}/{}", self.name.trim_end_matches('/'), kept.place)
    }

    /// Tries whether documents could be kept; a folder that is not there yet is not created.
    pub async fn check(&self) -> Result<(), String> {
        match &self.place {
            Place::Folder(folder) => {
                let ancestors =
                    folder.ancestors().map(|above| if above.as_os_str().is_empty() { ".".as_ref() } else { above });
                let there = ancestors.into_iter().find(|above| above.exists()).unwrap_or(folder);
                tempfile::tempfile_in(there).map(|_| ()).map_err(|error| self.cannot("write a document", &error))
            }
            #[cfg(feature = "s3")]
            Place::Bucket(store) => match store.head(&Path::from("billday")).await {
                Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.cannot("reach the bucket", &error)),
            },
        }
    }

    fn reach(&self) -> Result<Arc<dyn ObjectStore>, String> {
        match &self.place {
            Place::Folder(folder) => LocalFileSystem::new_with_prefix(folder)
                .map(|files| Arc::new(files.with_fsync(true)) as _)
                .map_err(|error| self.cannot("use the folder", &error)),
            #[cfg(feature = "s3")]
            Place::Bucket(store) => Ok(Arc::clone(store)),
        }
    }

    /// Tells the innermost cause: the ones around it repeat each other.
    fn cannot(&self, what: &str, error: &dyn std::error::Error) -> String {
        let mut cause = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        format!("documents.store {}: cannot {what}: {cause}", self.name)
    }
}

impl fmt::Display for DocumentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
