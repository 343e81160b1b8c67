//! Whether pings by id need their project's ping key.

use allswell_core::scope::ProjectScope;

use crate::Result;
use crate::db::{Reader, Tx, statements};

statements! {
    REQUIRE = "update projects set require_ping_key = $2 where id = $1 and deleted_at is null";
    REQUIRED = "select require_ping_key from projects where id = $1";
    // The switch lies beside each check too, where a ping finds it. Only what changes is written.
    REQUIRE_OF_CHECKS = "update checks set needs_key = $2, version = version + 1
                         where project_id = $1 and needs_key <> $2 and deleted_at is null";
}

impl Reader<'_> {
    /// Whether a ping to the id of one of the project's checks needs its ping key.
    pub async fn requires_ping_key(&mut self, scope: ProjectScope) -> Result<bool> {
        let row = self.first(&REQUIRED, &[scope.project().into()]).await?;
        row.map_or(Ok(false), |row| row.get("require_ping_key"))
    }
}

impl Tx<'_> {
    /// Says whether it does from now on. Nobody makes a check of the project until the transaction ends.
    pub async fn project_require_ping_key(&mut self, scope: ProjectScope, required: bool) -> Result<()> {
        self.project_lock(scope).await?;
        let values = [scope.project().into(), required.into()];
        self.run(&REQUIRE, &values).await?;
        self.run(&REQUIRE_OF_CHECKS, &values).await.map(drop)
    }
}
