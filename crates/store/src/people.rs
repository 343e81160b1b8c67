//! Users.

use allswell_core::id::UserId;
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;

use crate::Result;
use crate::db::{Reader, Row, Tx, statements};

statements! {
    INSERT = "insert into users (id, email, email_folded, password_hash, is_admin, check_limit, created_at)
              values ($1, $2, $3, $4, $5, $6, $7)";
    BY_EMAIL = "select id, email, is_admin, check_limit, created_at from users where email_folded = $1";
    COUNT = "select count(*) as users from users";
    DELETE = "delete from users where id = $1";
}

/// A person with an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The address, as it was given.
    pub email: String,
    /// May see and change the whole instance.
    pub is_admin: bool,
    /// How many checks the person's projects may hold together.
    pub check_limit: i64,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// The form in which addresses are compared: nobody has two accounts that differ in capitals.
pub fn fold_email(email: &str) -> String {
    email.trim().to_lowercase()
}

fn from_row(row: &Row) -> Result<User> {
    Ok(User {
        id: row.get("id")?,
        email: row.get("email")?,
        is_admin: row.get("is_admin")?,
        check_limit: row.get("check_limit")?,
        created_at: row.get("created_at")?,
    })
}

impl Reader<'_> {
    /// How many accounts there are.
    pub async fn user_count(&mut self, _: SystemScope) -> Result<i64> {
        Ok(self
            .first(&COUNT, &[])
            .await?
            .map(|row| row.get("users"))
            .transpose()?
            .unwrap_or(0))
    }

    /// The user with this address, whatever its capitals.
    pub async fn user_by_email(&mut self, _: SystemScope, email: &str) -> Result<Option<User>> {
        self.first(&BY_EMAIL, &[fold_email(email).as_str().into()])
            .await?
            .as_ref()
            .map(from_row)
            .transpose()
    }
}

impl Tx<'_> {
    /// Writes a new user. `Conflict` if the address has an account.
    pub async fn user_insert(
        &mut self,
        _: SystemScope,
        user: &User,
        password_hash: Option<&str>,
    ) -> Result<()> {
        let folded = fold_email(&user.email);
        let values = [
            user.id.into(),
            (&user.email).into(),
            (&folded).into(),
            password_hash.into(),
            user.is_admin.into(),
            user.check_limit.into(),
            user.created_at.into(),
        ];
        self.run(&INSERT, &values).await.map(drop)
    }

    /// Removes a user, with the memberships. `Conflict` while the user owns a project.
    pub async fn user_delete(&mut self, _: SystemScope, user: UserId) -> Result<bool> {
        Ok(self.run(&DELETE, &[user.into()]).await? > 0)
    }
}
