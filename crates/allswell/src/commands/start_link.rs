//! `allswell start-link`: the way in for whoever has no account yet.

use allswell_core::chance::Dice;
use allswell_core::limits::START_LINK_MINUTES;
use allswell_core::scope::SystemScope;
use allswell_core::time::Span;
use allswell_engine::loops::now;
use allswell_store::Store;
use allswell_web::start_link_hash;
use anyhow::Result;
use serde_json::json;

use super::Answer;
use crate::config::Loaded;
use crate::house;

const SECRET_CHARS: usize = 32;
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Makes a link while nobody has an account.
pub async fn make_if_new(store: &Store, site: &str, dice: &mut Dice) -> Result<Option<String>> {
    let users = store
        .read(async |reader| reader.user_count(SystemScope::operator()).await)
        .await?;
    if users > 0 {
        Ok(None)
    } else {
        Ok(Some(make(store, site, dice).await?))
    }
}

async fn make(store: &Store, site: &str, dice: &mut Dice) -> Result<String> {
    let secret = dice.text(ALPHABET, SECRET_CHARS);
    let (hash, now) = (start_link_hash(&secret), now());
    let expires_at = now + Span::from_secs(START_LINK_MINUTES * 60);
    store
        .write(async move |tx| tx.start_link_insert(&hash, now, expires_at).await)
        .await?;
    Ok(format!("{site}/start/{secret}"))
}

/// `allswell start-link`
pub async fn print(loaded: &Loaded, answer: Answer) -> Result<()> {
    let mut house = house::open(&loaded.config).await?;
    let site = loaded.config.site_url.as_str();
    let link = make(&house.store, site, &mut house.dice).await?;
    answer.give(
        &json!({ "link": link, "minutes": START_LINK_MINUTES }),
        &format!("{link}\nIt opens for {START_LINK_MINUTES} minutes.\n"),
    )
}
