//! The store by itself: opening, migrating, looking up.

use billday::domain::message::{Attempt, MailState, Patience, WhenUnknown};
use billday::store::outbox::Expired;
use billday::store::{Opened, Store};

use crate::support::daemon::eventually;
use crate::support::{TestDb, on_both, run};

on_both! {
    async fn a_migrated_database_opens_again_and_read_only(db: TestDb) {
        Store::open(&db.url, 2).await.expect("a second start");
        let opened = Store::open_read_only(&db.url, 2).await.expect("a read-only start");
        assert!(matches!(opened, Opened::Store(_)));
    }
}

/// PostgreSQL alone: SQLite looks rows up by an index wherever there is one.
#[test]
fn mails_are_looked_up_by_their_keys_in_an_outbox_that_could_still_be_read_whole() {
    run(async {
        let db = TestDb::postgres().await;
        db.try_execute(
            "insert into outbox (tenant_id, payment_id, kind, recipient, locale, state, attempts, next_at, fence, created_at)
             select 'T', 'pay_' || i, 'invoice', 'a@b.example', 'en', 'pending', 0, i, 0, 1 from generate_series(1, 5000) i",
        )
        .await
        .expect("mails");
        db.try_execute("analyze outbox").await.expect("statistics");
        let claim = db.store.with_tx(|tx| Box::pin(tx.claim_mails(10, 9_999, 20_000, Expired::Left)));
        let claimed = claim.await.expect("claimed mails");
        let keys: Vec<(&str, &str)> = claimed.iter().map(|mail| (&*mail.tenant_id, &*mail.payment_id)).collect();
        let mut session = db.store.read().await.expect("a snapshot");
        session.list_recipients(&keys).await.expect("recipients");
        session.end().await;
        let patience = Patience { when_unknown: WhenUnknown::Resend, chance: 0 };
        for mail in claimed.clone() {
            let settled = Attempt::Accepted.settle(mail.tried(), patience).expect("a settled mail");
            let settle =
                db.store.with_tx(move |tx| Box::pin(async move { tx.settle_mails(&[(mail, settled)], 5).await }));
            assert_eq!(settle.await.expect("its state"), [MailState::Sent]);
        }
        // What its connections did is counted when they end. Ten mails were claimed, looked at and settled.
        db.store.clone().close().await;
        let count =
            async |what| db.number(&format!("select {what} from pg_stat_user_tables where relname = 'outbox'")).await;
        eventually("all is counted", async || count("idx_tup_fetch + seq_tup_read").await >= 30).await;
        assert_eq!(count("seq_tup_read").await, 0);
    });
}
