//! Pages: `limit` and `cursor` in the query, `next` in the answer. A cursor is opaque to callers.

use allswell_core::limits::{PAGE_DEFAULT, PAGE_MAX};
use allswell_core::time::Timestamp;
use allswell_store::pages::Position;
use uuid::Uuid;

use super::problem::Problem;
use crate::query::Query;

/// How many items a caller wants on a page.
pub(super) fn limit(query: &Query) -> Result<i64, Problem> {
    let Some(text) = query.last("limit") else {
        return Ok(PAGE_DEFAULT);
    };
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| Problem::field("limit", format!("must be a number from 1 to {PAGE_MAX}")))
}

fn wrong_cursor() -> Problem {
    Problem::field(
        "cursor",
        "is not one of ours: pass `next` of the page before as it is",
    )
}

/// Where a page begins: `first` without a cursor.
pub(super) fn position(query: &Query, first: Position) -> Result<Position, Problem> {
    let Some(text) = query.last("cursor") else {
        return Ok(first);
    };
    let parts = text.split_once('_').and_then(|(at, id)| {
        let at = i64::from_str_radix(at, 36).ok()?;
        let id = Uuid::try_parse(id).ok()?;
        Some(Position {
            at: Timestamp::from_micros(at),
            id,
        })
    });
    parts.ok_or_else(wrong_cursor)
}

/// Like [`position`], for lists in the order of a number.
pub(super) fn number(query: &Query, first: i64) -> Result<i64, Problem> {
    match query.last("cursor") {
        None => Ok(first),
        Some(text) => i64::from_str_radix(text, 36)
            .ok()
            .filter(|number| *number >= 0)
            .ok_or_else(wrong_cursor),
    }
}

/// Like [`position`], for lists in the order of ids.
pub(super) fn id(query: &Query, first: Uuid) -> Result<Uuid, Problem> {
    match query.last("cursor") {
        None => Ok(first),
        Some(text) => Uuid::try_parse(text).map_err(|_| wrong_cursor()),
    }
}

/// The cursor of the page behind this position.
pub(super) fn cursor(position: Position) -> String {
    format!("{}_{}", base36(position.at.as_micros()), position.id.simple())
}

/// The cursor of the page behind this number.
pub(super) fn base36(number: i64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = number.unsigned_abs();
    let mut text = Vec::new();
    loop {
        text.push(DIGITS[usize::try_from(rest % 36).unwrap_or(0)]);
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        text.push(b'-');
    }
    text.reverse();
    String::from_utf8(text).unwrap_or_default()
}

/// Cuts the one item off that was read beyond the page, and gives the cursor behind what is left: `None` on the last
/// page.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(0);
    if items.len() <= limit {
        return None;
    }
    items.truncate(limit);
    items.last().map(cursor)
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_position() {
        for at in [i64::MIN, -1, 0, 35, 36, 1_893_456_000_000_000, i64::MAX] {
            let position = Position {
                at: Timestamp::from_micros(at),
                id: Uuid::from_u128(0x5e3f_9a1c),
            };
            let uri: Uri = format!("/v1/checks?cursor={}", cursor(position))
                .parse()
                .expect("a URI");
            assert_eq!(
                super::position(&Query::of(&uri), Position::FIRST).expect("a cursor"),
                position
            );
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused_by_name() {
        for text in [
            "",
            "x",
            "_",
            "1_x",
            "x%20_00000000000000000000000000000000",
            "1_2_3",
        ] {
            let uri: Uri = format!("/v1/checks?cursor={text}").parse().expect("a URI");
            assert!(
                super::position(&Query::of(&uri), Position::FIRST).is_err(),
                "{text}"
            );
        }
    }
}
