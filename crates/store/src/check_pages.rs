//! Pages of a project's checks, in the order of their making, all or those that match.
//!
//! One condition is walked by its index; the others are looked at on what the walk meets, as is whether it was deleted. A
//! walk ends after so many checks that a page costs little even where next to none match: then the page says how far it
//! came.

use allswell_core::check::{Check, Status};
use allswell_core::scope::ProjectScope;
use uuid::Uuid;

use crate::Result;
use crate::checks::{columns, from_row};
use crate::db::{Param, Reader, Row, statements};
use crate::pages::Position;

/// Checks that one page looks at, at most.
const WALK: i64 = 1_000;

/// What a walk meets behind a position: `$1` project, `$2` what is walked, `$3` and `$4` the position.
macro_rules! met {
    (all) => {
        "project_id = $1 and cast($2 as text) is null and (created_at, id) > ($3, $4)"
    };
    (name) => {
        "project_id = $1 and name = $2 and (created_at, id) > ($3, $4)"
    };
    // The last condition is what the index holds.
    (status) => {
        "project_id = $1 and status = $2 and (created_at, id) > ($3, $4) and status <> 1"
    };
    (tag) => {
        "project_id = $1 and tag = $2 and (created_at, check_id) > ($3, $4)"
    };
}

/// What else is asked of each: `$8`, `$9` and `$10` are a tag, a name and a status, or null. The tags are counted, since
/// PostgreSQL would rather gather all checks with the tag than ask whether there is one.
macro_rules! matching {
    () => {
        "deleted_at is null
           and (cast($8 as text) is null
                or (select count(*) from check_tags own where own.check_id = id and own.tag = cast($8 as text)) > 0)
           and (cast($9 as text) is null or name = cast($9 as text))
           and (cast($10 as bigint) is null or status = cast($10 as bigint))"
    };
}

/// `$5` and `$6` are the position of the last one that is looked at, `$7` how many are wanted.
macro_rules! page {
    ($by:ident, $index:literal) => {
        concat!(
            "select ",
            columns!(),
            " from checks ",
            $index,
            " where ",
            met!($by),
            " and (created_at, id) <= ($5, $6) and ",
            matching!(),
            "
            order by created_at, id limit $7"
        )
    };
}

/// The checks that a walk of tags meets, one after the other.
macro_rules! tagged {
    ($checks:literal) => {
        concat!(
            "select ",
            columns!(),
            " from
            (select check_id, created_at as tagged_at from check_tags
             where ",
            met!(tag),
            " and (created_at, check_id) <= ($5, $6)) t
            cross join ",
            $checks,
            " and ",
            matching!(),
            "
            order by tagged_at, check_id limit $7"
        )
    };
}

/// Where a walk has met `$5` and one more.
macro_rules! end {
    ($by:ident, $index:literal) => {
        concat!(
            "select created_at, id from checks ",
            $index,
            " where ",
            met!($by),
            "
            order by created_at, id limit 1 offset $5"
        )
    };
}

statements! {
    // SQLite is told which index to walk: without statistics it takes the one of the whole project for all of them.
    ALL = page!(all, "indexed by checks_by_project"), on postgres page!(all, "");
    ALL_END = end!(all, "indexed by checks_by_project"), on postgres end!(all, "");
    NAMED = page!(name, "indexed by checks_by_name"), on postgres page!(name, "");
    NAMED_END = end!(name, "indexed by checks_by_name"), on postgres end!(name, "");
    IN_STATUS = page!(status, "indexed by checks_not_up"), on postgres page!(status, "");
    IN_STATUS_END = end!(status, "indexed by checks_not_up"), on postgres end!(status, "");
    TAGGED = tagged!("checks where id = check_id"),
        on postgres tagged!("lateral (select * from checks where id = t.check_id offset 0) c where true");
    TAGGED_END = concat!("select created_at, check_id as id from check_tags where ", met!(tag), "
        order by created_at, check_id limit 1 offset $5");
}

/// Which checks are wanted: those that match all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// They bear this tag.
    pub tag: Option<String>,
    /// This is their whole name.
    pub name: Option<String>,
    /// This is their stored status: one that is late is up.
    pub status: Option<Status>,
}

/// A page of checks.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckPage {
    /// Those that were found.
    pub checks: Vec<Check>,
    /// The position up to which the project was looked through, if that took too long to go on: more may match behind it.
    pub looked_until: Option<Position>,
}

fn position(row: &Row) -> Result<Position> {
    Ok(Position {
        at: row.get("created_at")?,
        id: row.get::<Uuid>("id")?,
    })
}

impl Reader<'_> {
    /// Up to `limit` of the project's checks that match, behind a position.
    pub async fn checks_page(
        &mut self,
        scope: ProjectScope,
        wanted: &Matching,
        behind: Position,
        limit: i64,
    ) -> Result<CheckPage> {
        let (tag, name) = (wanted.tag.as_deref(), wanted.name.as_deref());
        let (page, end, walked) = match (name, tag, wanted.status) {
            (Some(name), ..) => (&NAMED, &NAMED_END, name.into()),
            (None, Some(tag), _) => (&TAGGED, &TAGGED_END, tag.into()),
            (None, None, None | Some(Status::Up)) => (&ALL, &ALL_END, Param::Null),
            (None, None, Some(status)) => (&IN_STATUS, &IN_STATUS_END, status.number().into()),
        };
        let (project, at, id) = (scope.project().into(), behind.at.into(), behind.id.into());
        // Also where the index holds all that is asked: it holds deleted checks too.
        let values = [project, walked, at, id, (WALK - 1).into()];
        let end = self.first(end, &values).await?;
        let looked_until = end.as_ref().map(position).transpose()?;
        let until = looked_until.unwrap_or(Position::LAST);
        let values = [
            project,
            walked,
            at,
            id,
            until.at.into(),
            until.id.into(),
            limit.into(),
            tag.map_or(Param::Null, Param::Text),
            name.map_or(Param::Null, Param::Text),
            wanted.status.map_or(Param::Null, |status| status.number().into()),
        ];
        let rows = self.all(page, &values).await?;
        let checks: Vec<Check> = rows.iter().map(from_row).collect::<Result<_>>()?;
        // A full page did not need all of the walk.
        let looked_until = looked_until.filter(|_| (checks.len() as i64) < limit);
        Ok(CheckPage { checks, looked_until })
    }
}
