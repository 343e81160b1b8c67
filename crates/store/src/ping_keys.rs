//! Whether pings by id need their project's ping key.

use allswell_core::scope::ProjectScope;

use crate::Result;
use crate::db::{Reader, Tx, statements};

statements! {
    REQUIRE = "update projects set require_ping_key = $2 where id = $1 and deleted_at is null";
    REQUIRED = "select require_ping_key from projects where id = $1";
}

impl Reader<'_> {
    /// Whether a ping to the id of one of the project's checks needs its ping key.
    pub async fn requires_ping_key(&mut self, scope: ProjectScope) -> Result<bool> {
        let row = self.first(&REQUIRED, &[scope.project().into()]).await?;
        row.map_or(Ok(false), |row| row.get("require_ping_key"))
    }
}

impl Tx<'_> {
    /// Says whether it does from the end of the transaction on. One row, however many checks there are.
    pub async fn project_require_ping_key(&mut self, scope: ProjectScope, required: bool) -> Result<()> {
        let values = [scope.project().into(), required.into()];
        self.run(&REQUIRE, &values).await.map(drop)
    }
}
