//! Wrong keys, counted by client and minute. All nodes count together, so that who guesses gains nothing by asking
//! several of them.

use allswell_core::scope::SystemScope;

use crate::Result;
use crate::db::{Tx, statements};

statements! {
    COUNT = "insert into wrong_keys (client, minute, tries) values ($1, $2, $3)
             on conflict (client, minute) do update set tries = wrong_keys.tries + excluded.tries returning tries";
    OLD = "with old as materialized (select client, minute from wrong_keys where minute < $1 limit $2",
           skipping locked, then ") delete from wrong_keys where (client, minute) in (select client, minute from old)";
}

impl Tx<'_> {
    /// Counts so many more wrong keys of a client in a minute (minutes since 1970); gives how many there were.
    pub async fn wrong_key_count(
        &mut self,
        _: SystemScope,
        client: &str,
        minute: i64,
        tries: i64,
    ) -> Result<i64> {
        let values = [client.into(), minute.into(), tries.into()];
        let row = self.first(&COUNT, &values).await?;
        row.map_or(Ok(tries), |row| row.get("tries"))
    }

    /// Forgets up to `limit` counts from before a minute.
    pub async fn wrong_keys_prune(&mut self, _: SystemScope, minute: i64, limit: i64) -> Result<u64> {
        self.run(&OLD, &[minute.into(), limit.into()]).await
    }
}
