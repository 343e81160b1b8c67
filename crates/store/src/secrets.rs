//! Named secrets of a project: what its webhooks put in the place of `${secret:NAME}`. They are written and used, and
//! never shown.

use std::collections::BTreeMap;

use allswell_core::chance::Dice;
use allswell_core::id::ProjectId;
use allswell_core::scope::ProjectScope;
use allswell_core::seal::Place;
use allswell_core::secret::Secret;
use allswell_core::time::Timestamp;

use crate::db::{Reader, Row, Tx, statements};
use crate::{Error, Result};

statements! {
    SET = "insert into project_secrets (project_id, name, sealed_value, created_at, updated_at)
           values ($1, $2, $3, $4, $4)
           on conflict (project_id, name) do update
           set sealed_value = excluded.sealed_value, updated_at = excluded.updated_at";
    DELETE = "delete from project_secrets where project_id = $1 and name = $2";
    NAMES = "select name, created_at, updated_at from project_secrets where project_id = $1 order by name";
    VALUES = "select name, sealed_value from project_secrets where project_id = $1";
}

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What templates call it.
    pub name: String,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When its value was last set.
    pub updated_at: Timestamp,
}

fn place(name: &str, project: ProjectId) -> Place<'_> {
    Place {
        table: "project_secrets",
        column: "sealed_value",
        row: name.as_bytes(),
        project: Some(project),
    }
}

impl Reader<'_> {
    /// The names of a project's secrets, sorted.
    pub async fn secret_names(&mut self, scope: ProjectScope) -> Result<Vec<Named>> {
        let rows = self.all(&NAMES, &[scope.project().into()]).await?;
        let named = |row: &Row| {
            Ok(Named {
                name: row.get("name")?,
                created_at: row.get("created_at")?,
                updated_at: row.get("updated_at")?,
            })
        };
        rows.iter().map(named).collect()
    }

    /// A project's secrets with their values.
    pub async fn secret_values(&mut self, scope: ProjectScope) -> Result<BTreeMap<String, Secret<String>>> {
        let rows = self.all(&VALUES, &[scope.project().into()]).await?;
        if rows.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut values = BTreeMap::new();
        for row in &rows {
            let name: String = row.get("name")?;
            let sealed: Vec<u8> = row.get("sealed_value")?;
            let what = format!("secret {name}");
            let plain = self
                .open_sealed(place(&name, scope.project()), &sealed, &what)
                .await?;
            let text = String::from_utf8(plain.to_vec())
                .map_err(|_| Error::Corrupt(format!("secret {name} is not text")))?;
            values.insert(name, Secret::new(text));
        }
        Ok(values)
    }
}

impl Tx<'_> {
    /// Writes a secret, in place of the one of that name if there is one.
    pub async fn secret_set(
        &mut self,
        scope: ProjectScope,
        name: &str,
        value: &Secret<String>,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<()> {
        let project = scope.project();
        let key = self.data_key(project).await?;
        let sealed = key.seal(place(name, project), value.reveal().as_bytes(), dice);
        let values = [project.into(), name.into(), (&sealed).into(), now.into()];
        self.run(&SET, &values).await.map(drop)
    }

    /// Forgets a secret; false if there was none of that name.
    pub async fn secret_delete(&mut self, scope: ProjectScope, name: &str) -> Result<bool> {
        let values = [scope.project().into(), name.into()];
        Ok(self.run(&DELETE, &values).await? > 0)
    }
}
