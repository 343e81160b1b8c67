//! Whether pings by id need their project's ping key.

use allswell_core::scope::ProjectScope;

use crate::Result;
use crate::db::{Reader, Tx, statements};

/// What projects asked of pings by id, at one instant: it differs once one of them changed its mind.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KeyRules(pub(crate) i64);

impl KeyRules {
    /// Where no project ever changed its mind.
    pub const FIRST: KeyRules = KeyRules(0);

    /// After the next change.
    #[must_use]
    pub fn next(self) -> KeyRules {
        KeyRules(self.0 + 1)
    }
}

statements! {
    REQUIRE = "update projects set require_ping_key = $2 where id = $1 and deleted_at is null
        and require_ping_key <> $2";
    REQUIRED = "select require_ping_key from projects where id = $1";
    // Who believes what it read of this must be told that it is over: a ping compares the number with the one it knew.
    RULES_CHANGED = "insert into instance (name, value) values ('ping_key_rules', '1')
        on conflict (name) do update set value = cast(cast(instance.value as bigint) + 1 as text)";
    RULES = "select cast(value as bigint) as changes from instance where name = 'ping_key_rules'";
}

impl Reader<'_> {
    /// Whether a ping to the id of one of the project's checks needs its ping key.
    pub async fn requires_ping_key(&mut self, scope: ProjectScope) -> Result<bool> {
        let row = self.first(&REQUIRED, &[scope.project().into()]).await?;
        row.map_or(Ok(false), |row| row.get("require_ping_key"))
    }

    /// How often any project changed its mind about that.
    pub(crate) async fn key_rules(&mut self) -> Result<KeyRules> {
        let row = self.first(&RULES, &[]).await?;
        Ok(KeyRules(row.map_or(Ok(0), |row| row.get("changes"))?))
    }
}

impl Tx<'_> {
    /// Says whether it does from the end of the transaction on. One row, however many checks there are.
    pub async fn project_require_ping_key(&mut self, scope: ProjectScope, required: bool) -> Result<()> {
        let values = [scope.project().into(), required.into()];
        if self.run(&REQUIRE, &values).await? > 0 {
            self.run(&RULES_CHANGED, &[]).await?;
        }
        Ok(())
    }
}
