//! `allswell user`

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use allswell_core::id::UserId;
use allswell_core::limits::EMAIL_CHARS_MAX;
use allswell_core::scope::SystemScope;
use allswell_core::secret::Secret;
use allswell_store::people::User;
use allswell_web::auth::hash_password;
use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{Answer, conflict_means, operators_act};
use crate::config::Config;
use crate::{house, system};

const PASSWORD_FILE_BYTES_MAX: u64 = 4_096;

/// `allswell user create`
pub async fn create(
    config: &Config,
    answer: Answer,
    email: &str,
    admin: bool,
    password_file: &Path,
    check_limit: i64,
) -> Result<()> {
    let email = checked_email(email)?;
    let file = system::read_small_file(password_file, PASSWORD_FILE_BYTES_MAX).context("--password-file")?;
    let password = Secret::new(file.lines().next().unwrap_or_default().to_owned());
    let exposed = exposed(password_file);
    let mut house = house::open(config).await?;
    let hash = hash_password(&password, &email, &mut house.dice).context("--password-file")?;

    let id: UserId = house.dice.id();
    let act_id = house.dice.id_at(house.now);
    let user = User {
        id,
        email: email.clone(),
        is_admin: admin,
        check_limit,
        created_at: house.now,
    };
    let act = operators_act(house.now, None, "user.create", format!("user:{id}"));
    house
        .store
        .write(async move |tx| {
            tx.user_insert(SystemScope::operator(), &user, Some(&hash))
                .await?;
            tx.audit(act_id, &act).await
        })
        .await
        .map_err(|error| conflict_means(error, format!("--email: {email} has an account already")))?;
    let warnings: Vec<_> = exposed
        .iter()
        .map(|detail| json!({ "field": "password-file", "rule": "exposed", "detail": detail }))
        .collect();
    let note = exposed.map_or_else(String::new, |detail| format!("Note on password-file: {detail}\n"));
    answer.give(
        &json!({
            "id": id.to_string(), "email": email, "admin": admin, "check_limit": check_limit, "warnings": warnings,
        }),
        &format!("Account {email} made.\n{note}"),
    )
}

/// What is wrong with a file of a password that others may read; a pipe is nobody else's.
fn exposed(file: &Path) -> Option<String> {
    let facts = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    let mode = facts.permissions().mode() & 0o7777;
    (mode & 0o044 != 0).then(|| {
        format!(
            "{} has mode {mode:o}: others on this machine may have read the password; remove the file",
            file.display()
        )
    })
}

/// An address as RFC 5321 has it, roughly: whether mail arrives is known only once some was sent.
fn checked_email(email: &str) -> Result<String> {
    let email = email.trim();
    let whole = email.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
    });
    if !whole || email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        bail!(
            "--email: {:?} is not an e-mail address",
            email.chars().take(100).collect::<String>()
        );
    }
    if email.chars().count() > EMAIL_CHARS_MAX {
        bail!("--email: an address has at most {EMAIL_CHARS_MAX} characters");
    }
    Ok(email.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_and_a_domain() {
        for good in ["alice@example.org", " Bob.B+x@sub.example ", "ü@bücher.example"] {
            assert_eq!(checked_email(good).expect("good"), good.trim());
        }
        for bad in [
            "",
            "alice",
            "@example.org",
            "alice@",
            "a@b@c",
            "a b@c",
            "a@b\n.c",
            &format!("{}@b", "a".repeat(300)),
        ] {
            assert!(checked_email(bad).is_err(), "{bad}");
        }
    }
}
