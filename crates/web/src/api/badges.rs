//! `badges/`: the addresses of a project's badges.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::auth::ReadKey;
use super::json;
use crate::badge::{ALL, Format, States, address};
use crate::error::Error;
use crate::state::App;

/// GET `badges/`
pub(crate) async fn list(State(app): State<App>, key: ReadKey) -> Result<Response, Error> {
    let scope = key.scope;
    let tags = app
        .store()
        .read(async move |reader| reader.tags(scope).await)
        .await?;
    let badge_key = app.store().badge_keys()?.project_key(scope.project());
    let mut badges = Map::new();
    for tag in std::iter::once(ALL).chain(tags.iter().map(String::as_str)) {
        let mut formats = Map::new();
        for format in Format::ALL {
            for (states, suffix) in [(States::Two, ""), (States::Three, "3")] {
                let url = address(&app, &badge_key, tag, format, states)?;
                formats.insert(format!("{}{suffix}", format.word()), Value::String(url));
            }
        }
        badges.insert(tag.to_owned(), Value::Object(formats));
    }
    Ok(json(StatusCode::OK, &json!({ "badges": badges })))
}
