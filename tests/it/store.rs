//! The store by itself: opening, migrating.

use billday::store::{Opened, Store};

use crate::support::on_both;

on_both! {
    async fn a_migrated_database_opens_again_and_read_only(db: TestDb) {
        Store::open(&db.url, 2).await.expect("a second start");
        let opened = Store::open_read_only(&db.url, 2).await.expect("a read-only start");
        assert!(matches!(opened, Opened::Store(_)));
    }
}
