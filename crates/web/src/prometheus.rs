//! A project's checks as gauges for Prometheus (`healthchecks.md` section 6).
//!
//! A read-only key or one made for scrapers opens them; a read-write key does not, since it would stand in the
//! configuration of a scraper. What concerns the server itself is on a port of its own (`metrics`).

use std::fmt::Write as _;

use allswell_core::check::{Check, Shown, Status};
use allswell_core::id::ProjectId;
use allswell_core::key::{self, KeyKind};
use allswell_core::schedule::Zones;
use allswell_core::scope::ProjectScope;
use allswell_core::time::Timestamp;
use allswell_engine::record::plan_to_show;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use crate::api::{auth, compat};
use crate::client::Client;
use crate::error::Error;
use crate::headers::NEVER_CACHED;
use crate::path::Segments;
use crate::state::App;

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// GET `/projects/<project id>/metrics/<read-only key>`
pub(crate) async fn of_project(
    State(app): State<App>,
    client: Client,
    Segments((project, key)): Segments<(String, String)>,
) -> Result<Response, Error> {
    gauges_of(&app, client, &project, &key).await
}

/// GET `/projects/<project id>/metrics/`, with `Authorization: Bearer <read-only key>`
pub(crate) async fn of_project_by_bearer(
    State(app): State<App>,
    client: Client,
    Segments(project): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    gauges_of(&app, client, &project, bearer(&headers)?).await
}

/// GET `/checks/metrics/<read-only key>`
pub(crate) async fn of_key(
    State(app): State<App>,
    client: Client,
    Segments(key): Segments<String>,
) -> Result<Response, Error> {
    let scope = opened(&app, client, &key).await?;
    gauges(&app, scope).await
}

/// GET `/metrics/`, with `Authorization: Bearer <read-only key>`
pub(crate) async fn of_bearer(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let scope = opened(&app, client, bearer(&headers)?).await?;
    gauges(&app, scope).await
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(Error::Text(StatusCode::UNAUTHORIZED, "missing bearer token"))
}

/// The gauges of the project that an address names, if the key is one of its own.
async fn gauges_of(app: &App, client: Client, project: &str, key: &str) -> Result<Response, Error> {
    let project: ProjectId = project.parse().map_err(|_| Error::NOT_FOUND)?;
    let scope = opened(app, client, key).await?;
    if scope.project() != project {
        return Err(Error::FORBIDDEN);
    }
    gauges(app, scope).await
}

async fn opened(app: &App, client: Client, key: &str) -> Result<ProjectScope, Error> {
    if key.chars().count() != key::API_KEY_CHARS {
        return Err(Error::Text(
            StatusCode::BAD_REQUEST,
            "the key must have 32 characters",
        ));
    }
    match auth::known(app, client, key).await? {
        Some(known) if matches!(known.kind, KeyKind::ReadOnly | KeyKind::Metrics) => {
            Ok(ProjectScope::granted(known.project))
        }
        _ => Err(Error::FORBIDDEN),
    }
}

async fn gauges(app: &App, scope: ProjectScope) -> Result<Response, Error> {
    let checks = app
        .store()
        .read(async move |reader| reader.checks(scope).await)
        .await?;
    let text = exposition(&checks, app.zones(), app.now());
    Ok(([(CONTENT_TYPE, FORMAT)], [(CACHE_CONTROL, NEVER_CACHED)], text).into_response())
}

/// One line of labels for each check, with what it is shown as.
struct Line<'c> {
    labels: String,
    check: &'c Check,
    shown: Shown,
}

/// The text in Prometheus' format, version 0.0.4.
fn exposition(checks: &[Check], zones: &Zones, now: Timestamp) -> String {
    let lines: Vec<Line<'_>> = checks
        .iter()
        .map(|check| Line {
            // With spaces, as Healthchecks writes them: scripts cut such lines by hand.
            labels: format!(
                r#"{{name="{}", tags="{}", unique_key="{}"}}"#,
                escaped(&check.settings.name),
                escaped(&check.settings.tags),
                compat::unique_key(check.id)
            ),
            check,
            shown: check.state.shown_at(&plan_to_show(check, zones), now),
        })
        .collect();
    let mut out = String::new();
    let mut family = |name: &str, help: &str, holds: &dyn Fn(&Line<'_>) -> bool| {
        head(&mut out, name, help);
        for line in &lines {
            let _ = writeln!(out, "{name}{} {}", line.labels, u8::from(holds(line)));
        }
    };
    family("hc_check_up", "1 unless the check is down", &|line| {
        line.shown != Shown::Down
    });
    family(
        "hc_check_started",
        "1 while a run of the check is open",
        &|line| line.check.state.last_start.is_some(),
    );
    family(
        "hc_check_grace",
        "1 while the check is late and its grace lasts",
        &|line| line.shown == Shown::Late,
    );
    family("hc_check_paused", "1 while the check is paused", &|line| {
        line.check.state.status == Status::Paused
    });

    head(&mut out, "hc_tag_up", "1 unless a check with the tag is down");
    for (tag, up) in tags(&lines) {
        let _ = writeln!(out, r#"hc_tag_up{{tag="{}"}} {}"#, escaped(tag), u8::from(up));
    }
    let down = lines.iter().filter(|line| line.shown == Shown::Down).count();
    for (name, help, count) in [
        ("hc_checks_total", "Checks of the project", lines.len()),
        ("hc_checks_down_total", "Checks that are down now", down),
    ] {
        head(&mut out, name, help);
        let _ = writeln!(out, "{name} {count}");
    }
    out
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} gauge");
}

/// Each tag with whether none of its checks is down, sorted.
fn tags<'c>(lines: &[Line<'c>]) -> Vec<(&'c str, bool)> {
    let mut all = std::collections::BTreeMap::new();
    for line in lines {
        for tag in line.check.settings.tag_list() {
            *all.entry(tag).or_insert(true) &= line.shown != Shown::Down;
        }
    }
    all.into_iter().collect()
}

/// A label's value: backslash, quote and line break escaped. Other line ends would break the line as well for readers
/// that are less strict than Prometheus.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '"' => out.push_str(r#"\""#),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use allswell_core::chance::Dice;
    use allswell_core::check::{Settings, State};
    use allswell_core::time::Span;

    use super::*;

    fn check(dice: &mut Dice, name: &str, tags: &str, state: State) -> Check {
        Check {
            id: dice.id(),
            project: dice.id(),
            badge: dice.id(),
            settings: Settings {
                name: name.into(),
                tags: tags.into(),
                ..Settings::default()
            },
            state,
            deadline: None,
            version: 1,
            created_at: Timestamp::from_secs(0),
        }
    }

    #[test]
    fn each_check_has_a_line_in_each_family_and_each_tag_one() {
        let (mut dice, begin) = (Dice::from_number(1), Timestamp::from_secs(0));
        let with = |status, last_ping, last_start| State {
            status,
            last_ping,
            last_start,
            ..State::new(begin)
        };
        // The defaults: a day, and an hour of grace.
        let now = begin + Span::from_secs(86_400 + 60);
        let checks = [
            check(&mut dice, "late", "prod a", with(Status::Up, Some(begin), None)),
            check(&mut dice, "broken", "prod", with(Status::Down, Some(begin), None)),
            check(&mut dice, "paused", "b", with(Status::Paused, None, None)),
            check(&mut dice, "runs", "", with(Status::New, None, Some(now))),
        ];
        let text = exposition(&checks, &Zones::default(), now);
        let value = |family: &str, name: &str| {
            let start = format!("{family}{{name=\"{name}\"");
            let line = text.lines().find(|line| line.starts_with(&start));
            line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
        };
        for (name, up, started, grace, paused) in [
            ("late", "1", "0", "1", "0"),
            ("broken", "0", "0", "0", "0"),
            ("paused", "1", "0", "0", "1"),
            ("runs", "1", "1", "0", "0"),
        ] {
            for (family, expected) in [
                ("hc_check_up", up),
                ("hc_check_started", started),
                ("hc_check_grace", grace),
                ("hc_check_paused", paused),
            ] {
                assert_eq!(value(family, name).as_deref(), Some(expected), "{family} {name}");
            }
        }
        for line in [
            "hc_tag_up{tag=\"a\"} 1",
            "hc_tag_up{tag=\"b\"} 1",
            "hc_tag_up{tag=\"prod\"} 0",
            "hc_checks_total 4",
            "hc_checks_down_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE ").count(), 7);
    }

    #[test]
    fn a_hostile_name_stays_within_its_quotes() {
        let mut dice = Dice::from_number(2);
        let state = State::new(Timestamp::from_secs(0));
        let evil = check(&mut dice, "a\"} 1\nhc_check_up{name=\"b\\", "x\r\ny", state);
        let text = exposition(&[evil], &Zones::default(), Timestamp::from_secs(0));
        assert!(
            text.contains(r#"name="a\"} 1\nhc_check_up{name=\"b\\", tags="x \ny", unique_key=""#),
            "{text}"
        );
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("hc_check_up"))
                .count(),
            1
        );
    }
}
