//! What a clock that was set far ahead leaves behind, once it is right again.

use serde_json::json;

use crate::support::on_both;
use crate::support::world::{World, rental};

on_both! {
    async fn mails_that_a_wrong_clock_put_off_or_claimed_for_years_are_due_again_and_others_stay(db: TestDb) {
        let world = World::new(db).await;
        let rentals: Vec<_> = (0..4).map(|n| rental(&format!("R{n}"), "2026-11-15", json!({}))).collect();
        world.import(rentals.into()).await;
        world.run("2026-11-15").await;
        let (now, day) = (world.clock_micros(), 24 * 3600 * 1_000_000_i64);
        let ids = world.db.texts("select payment_id from outbox order by payment_id").await;
        let (soon, years) = (now + day / 6, now + 3653 * day);
        for (id, set) in ids.iter().zip([
            format!("next_at = {soon}"),
            format!("next_at = {years}"),
            format!("state = 'sending', lease_until = {soon}"),
            format!("state = 'sending', lease_until = {years}"),
        ]) {
            world.db.execute(&format!("update outbox set {set} where payment_id = '{id}'")).await;
        }
        world.db.store.with_tx(move |tx| Box::pin(tx.recall_mails(now))).await.expect("a write");
        let mut due = Vec::new();
        for id in &ids {
            let due_at = format!("select coalesce(lease_until, next_at) from outbox where payment_id = '{id}'");
            due.push(world.db.number(&due_at).await);
        }
        assert_eq!(due, [soon, now, soon, now]);
    }
}
