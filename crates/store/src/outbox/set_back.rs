//! What a clock ahead promised or leased for time to come, brought back when the clock is set back.

use allswell_core::absence::CLOCKS_DIFFER;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};

use crate::Result;
use crate::db::{Tx, statements};

statements! {
    // What waits for its next try may do so for hours, and for no longer. Materialized as in `claim.rs`.
    READY_AHEAD = "with ahead as materialized
                       (select shard, id from deliveries
                        where state = 'ready' and next_at > $2 and (created_at > $2 or next_at > $4) limit $3",
                   skipping locked, then ")
                   update deliveries set next_at = $1, created_at = case when created_at > $2 then $1 else created_at end
                   where (shard, id) in (select shard, id from ahead)";
    LEASED_AHEAD = "with ahead as materialized
                        (select shard, id from deliveries where state = 'leased' and lease_until > $2 limit $3",
                    skipping locked, then ")
                    update deliveries set lease_until = $1 where (shard, id) in (select shard, id from ahead)";
}

/// Nobody leases a delivery for longer.
const LEASE_MAX: Span = Span::from_secs(3_600);
/// No try waits for longer: six hours and a fifth, or an hour that a receiver asked for.
const RETRY_MAX: Span = Span::from_secs(8 * 3_600);

impl Tx<'_> {
    /// Brings up to `limit` deliveries back that a clock ahead promised or leased for time to come, now that it was set
    /// back; gives how many there were.
    pub async fn deliveries_bring_back(&mut self, _: SystemScope, now: Timestamp, limit: i64) -> Result<u64> {
        let ready = [
            now.into(),
            (now + CLOCKS_DIFFER).into(),
            limit.into(),
            (now + RETRY_MAX).into(),
        ];
        let leased = [now.into(), (now + LEASE_MAX).into(), limit.into()];
        Ok(self.run(&READY_AHEAD, &ready).await? + self.run(&LEASED_AHEAD, &leased).await?)
    }
}
