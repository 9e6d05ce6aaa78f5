//! Reading ahead: the next batch is read while the last one is planned and written.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::store::due::{Due, DueReader, Position};
use crate::store::{Session, Store, StoreError};

/// What a run sees of the ledger: one snapshot for all of a dry run, or a fresh one for each batch of a real run.
pub(super) struct View {
    store: Store,
    session: Option<Session>,
    fixed: bool,
}

impl View {
    /// The same snapshot from first to last.
    pub fn fixed(store: &Store) -> Self {
        Self { store: store.clone(), session: None, fixed: true }
    }

    /// A new snapshot after each release: SQLite's log cannot shrink while an old one is held.
    pub fn fresh(store: &Store) -> Self {
        Self { store: store.clone(), session: None, fixed: false }
    }

    pub async fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.is_none() {
            self.session = Some(self.store.read().await?);
        }
        self.session.as_mut().ok_or_else(|| StoreError::Other(anyhow::anyhow!("no snapshot")))
    }

    pub async fn release(&mut self) {
        if !self.fixed
            && let Some(session) = self.session.take()
        {
            session.end().await;
        }
    }
}

/// A batch as it was read, with its place among the due subjects.
pub(super) struct Read {
    pub before: Position,
    pub after: Position,
    pub due: Vec<Due>,
}

/// Batches that wait to be planned: one, so that memory holds three at the most (read, planned, written).
const AHEAD: usize = 1;

/// Reads all batches, or those up to a position, in a task of its own, which gives the view back at the end.
pub(super) fn spawn_reader(
    mut view: View,
    mut reader: DueReader,
    batch_rentals: usize,
    through: Option<Position>,
) -> (mpsc::Receiver<Result<Read, StoreError>>, JoinHandle<View>) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let task = tokio::spawn(async move {
        loop {
            let read = next(&mut view, &mut reader, batch_rentals, through.as_ref()).await;
            view.release().await;
            let (at_end, failed) = (matches!(&read, Ok(read) if read.due.is_empty()), read.is_err());
            if at_end || sender.send(read).await.is_err() || failed {
                return view;
            }
        }
    });
    (receiver, task)
}

async fn next(
    view: &mut View,
    reader: &mut DueReader,
    batch_rentals: usize,
    through: Option<&Position>,
) -> Result<Read, StoreError> {
    let before = reader.position();
    let due = reader.next_batch(view.session().await?, batch_rentals, through).await?;
    Ok(Read { before, after: reader.position(), due })
}
