//! Badges: a word about one check, or about all checks with a tag, for pages elsewhere (`healthchecks.md` section 5).
//!
//! They need no key; their address is the right to see them. Nobody on the way may keep them.

mod svg;

use allswell_core::check::{Check, Shown};
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;
use allswell_engine::record::plan_to_show;
use allswell_store::badges::Counted;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::api::json;
use crate::error::Error;
use crate::headers::NEVER_CACHED;
use crate::path::{Segments, segment};
use crate::state::App;

/// The name under which the badge of all checks is listed and signed.
pub(crate) const ALL: &str = "*";
/// Behind a signature: this badge knows up and down only.
const TWO_STATES: &str = "-2";

/// The forms a badge comes in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Svg,
    Json,
    Shields,
}

impl Format {
    pub(crate) const ALL: [Format; 3] = [Format::Svg, Format::Json, Format::Shields];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Format::Svg => "svg",
            Format::Json => "json",
            Format::Shields => "shields",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Format::ALL.into_iter().find(|format| format.word() == word)
    }
}

/// How much a badge tells.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// Up and down; late is up.
    Two,
    /// Up, late and down.
    Three,
}

/// What is behind a badge at the instant of looking.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    total: i64,
    late: i64,
    down: i64,
}

/// The word on a badge.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Word {
    Up,
    Late,
    Down,
}

impl Tally {
    fn of(counted: &Counted, zones: &Zones, now: Timestamp) -> Self {
        let mut tally = Tally {
            total: counted.total,
            late: 0,
            down: counted.down,
        };
        for check in &counted.suspects {
            tally.add(shown(check, zones, now));
        }
        tally
    }

    fn of_one(check: &Check, zones: &Zones, now: Timestamp) -> Self {
        let mut tally = Tally {
            total: 1,
            ..Tally::default()
        };
        tally.add(shown(check, zones, now));
        tally
    }

    fn add(&mut self, shown: Shown) {
        match shown {
            Shown::Down => self.down += 1,
            Shown::Late => self.late += 1,
            Shown::New | Shown::Up | Shown::Paused => {}
        }
    }

    fn word(self, states: States) -> Word {
        match (self.down, self.late, states) {
            (1.., _, _) => Word::Down,
            (_, 1.., States::Three) => Word::Late,
            _ => Word::Up,
        }
    }
}

fn shown(check: &Check, zones: &Zones, now: Timestamp) -> Shown {
    check.state.shown_at(&plan_to_show(check, zones), now)
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Word::Up => "up",
            Word::Late => "late",
            Word::Down => "down",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Word::Up => "#4c1",
            Word::Late => "#fe7d37",
            Word::Down => "#e05d44",
        }
    }

    /// The name of the colour at shields.io.
    const fn shields_colour(self) -> &'static str {
        match self {
            Word::Up => "success",
            Word::Late => "important",
            Word::Down => "critical",
        }
    }
}

/// The address of the badge of a tag.
pub(crate) fn address(
    app: &App,
    key: &str,
    tag: &str,
    format: Format,
    states: States,
) -> Result<String, Error> {
    let signature = app.store().badge_keys()?.signature(key, tag);
    let suffix = match states {
        States::Two => TWO_STATES,
        States::Three => "",
    };
    let of_tag = if tag == ALL {
        String::new()
    } else {
        format!("/{}", segment(tag))
    };
    Ok(format!(
        "{}/badge/{key}/{signature}{suffix}{of_tag}.{}",
        app.site().url,
        format.word()
    ))
}

/// GET `/badge/<badge key>/<signature>.<format>`
pub(crate) async fn of_project(
    State(app): State<App>,
    Segments((key, file)): Segments<(String, String)>,
) -> Result<Response, Error> {
    let (signature, format) = split_file(&file)?;
    signed(&app, &key, signature, ALL, format).await
}

/// GET `/badge/<badge key>/<signature>/<tag>.<format>`
pub(crate) async fn of_tag(
    State(app): State<App>,
    Segments((key, signature, file)): Segments<(String, String, String)>,
) -> Result<Response, Error> {
    let (tag, format) = split_file(&file)?;
    signed(&app, &key, &signature, tag, format).await
}

fn split_file(file: &str) -> Result<(&str, Format), Error> {
    let (name, format) = file.rsplit_once('.').ok_or(Error::NOT_FOUND)?;
    Ok((name, Format::from_word(format).ok_or(Error::NOT_FOUND)?))
}

async fn signed(app: &App, key: &str, signature: &str, tag: &str, format: Format) -> Result<Response, Error> {
    let keys = app.store().badge_keys()?;
    let (signature, states) = match signature.strip_suffix(TWO_STATES) {
        // A signature may end in these very characters; with the suffix it is longer.
        Some(shorter) if signature.len() == 8 + TWO_STATES.len() => (shorter, States::Two),
        _ => (signature, States::Three),
    };
    if !keys.recognises(key, tag, signature) {
        return Err(Error::NOT_FOUND);
    }
    let project = keys.project(key).ok_or(Error::NOT_FOUND)?;
    let (scope, now, wanted) = (ProjectScope::granted(project), app.now(), tag.to_owned());
    let counted = app
        .store()
        .read(async move |reader| {
            if reader.project(SystemScope::engine(), project).await?.is_none() {
                return Err(Error::NOT_FOUND);
            }
            Ok::<_, Error>(if wanted == ALL {
                reader.checks_counted(scope, now).await?
            } else {
                reader.checks_counted_by_tag(scope, &wanted, now).await?
            })
        })
        .await?;
    let label = if tag == ALL { &app.site().badge_label } else { tag };
    Ok(render(
        label,
        Tally::of(&counted, app.zones(), now),
        states,
        format,
    ))
}

/// GET `/b/<2|3>/<badge id>.<format>`
pub(crate) async fn of_check(
    State(app): State<App>,
    Segments((states, file)): Segments<(String, String)>,
) -> Result<Response, Error> {
    let states = match states.as_str() {
        "2" => States::Two,
        "3" => States::Three,
        _ => return Err(Error::NOT_FOUND),
    };
    let (id, format) = split_file(&file)?;
    let badge: Uuid = allswell_core::id::parse_strict(id).ok_or(Error::NOT_FOUND)?;
    let check = app
        .store()
        .read(async move |reader| reader.check_by_badge(SystemScope::engine(), badge).await)
        .await?
        .ok_or(Error::NOT_FOUND)?;
    let label = if check.settings.name.is_empty() {
        check.id.to_string()
    } else {
        check.settings.name.clone()
    };
    Ok(render(
        &label,
        Tally::of_one(&check, app.zones(), app.now()),
        states,
        format,
    ))
}

fn render(label: &str, tally: Tally, states: States, format: Format) -> Response {
    let word = tally.word(states);
    let mut response = match format {
        Format::Svg => ([(CONTENT_TYPE, "image/svg+xml")], svg::draw(label, word)).into_response(),
        Format::Json => json(
            StatusCode::OK,
            &json!({ "status": word.text(), "total": tally.total, "grace": tally.late, "down": tally.down }),
        ),
        Format::Shields => json(
            StatusCode::OK,
            &json!({ "schemaVersion": 1, "label": label, "message": word.text(), "color": word.shields_colour() }),
        ),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NEVER_CACHED);
    // An SVG opened by itself is a document of our origin, with a name in it that somebody else chose.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_beats_late_and_late_shows_only_among_three() {
        let tally = |late, down| Tally { total: 5, late, down };
        for (tally, two, three) in [
            (tally(0, 0), Word::Up, Word::Up),
            (tally(2, 0), Word::Up, Word::Late),
            (tally(2, 1), Word::Down, Word::Down),
            (tally(0, 5), Word::Down, Word::Down),
        ] {
            assert_eq!((tally.word(States::Two), tally.word(States::Three)), (two, three));
        }
    }
}
