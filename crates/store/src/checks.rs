//! Checks. One row each, settings and state together: a ping reads and writes one row.

use allswell_core::check::{Check, Recent, Rules, Settings, State, Status, Timing, TimingKind};
use allswell_core::id::{ChannelId, CheckId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::signal::Filters;
use allswell_core::time::Timestamp;

use crate::batch::Changed;
use crate::db::{Columns, FromColumns, Param, Reader, Row, Tx, in_scope, statements};
use crate::rules::with_rules;
use crate::{Error, Result};

/// The columns of a check's own row that [`from_row`] wants.
macro_rules! own_columns {
    () => {
        "id, project_id, badge_id, created_at, version, deadline, status, status_since, last_ping_at, last_start_at, \
         last_start_rid, last_duration, excused_until, ping_count, flip_count, timing_kind, period, grace, expression, zone, \
         post_only, manual_resume, filter_http_body, filter_subject, filter_body, filter_default_fail, \
         start_keywords, success_keywords, failure_keywords, name, slug, tags, description, \
         rules, rules_state, pings_not_kept, last_success_at, paused_until, last_alive_at"
    };
}

/// The columns that [`from_row`] wants. Whether a ping by id needs its project's key is asked of the project: a copy beside
/// each check would have to be written for all of them at once, and their pings would wait for that.
macro_rules! columns {
    () => {
        concat!(
            crate::checks::own_columns!(),
            ", (select require_ping_key from projects where projects.id = project_id) as needs_key"
        )
    };
}
pub(crate) use {columns, own_columns};

statements! {
    BY_ID = concat!("select ", columns!(), " from checks where id = $1 and deleted_at is null");
    // An edit reads, decides and writes several rows, and must not lose one to a ping. One writer loses none anyhow.
    LOCK = "select id from checks where id = $1 and project_id = $2",
        on postgres "select id from checks where id = $1 and project_id = $2 for no key update";
    BY_SLUG = concat!("select ", columns!(), " from checks
        where project_id = $1 and slug = $2 and slug <> '' and deleted_at is null order by created_at, id limit 2");
    OF_PROJECT = concat!("select ", columns!(), " from checks
        where project_id = $1 and deleted_at is null order by created_at, id");
    OF_PROJECT_BY_SLUG = concat!("select ", columns!(), " from checks
        where project_id = $1 and slug = $2 and slug <> '' and deleted_at is null order by created_at, id");
    // As an array for PostgreSQL, whose planner would read all checks otherwise (as in `badges.rs`).
    OF_PROJECT_BY_TAG = concat!("select ", columns!(), " from checks
        where id in (select check_id from check_tags where project_id = $1 and tag = $2) and deleted_at is null
        order by created_at, id"),
        on postgres concat!("select ", columns!(), " from checks
        where id = any(array(select check_id from check_tags where project_id = $1 and tag = $2)) and deleted_at is null
        order by created_at, id");
    IDS_OF_PROJECT = "select id from checks where project_id = $1 and deleted_at is null order by created_at, id";
    DUE = concat!("select ", columns!(), " from checks where deadline <= $1 order by deadline limit $2");
    // Nobody waits for what another sweep is just judging: each takes others.
    DUE_TAKEN = concat!("select ", columns!(), " from checks where deadline <= $1 order by deadline limit $2"),
        on postgres concat!("select ", columns!(), " from checks where deadline <= $1 order by deadline limit $2
        for no key update skip locked");
    BY_EXPRESSION = concat!("select ", columns!(), " from checks
        where timing_kind = 1 and deleted_at is null and id > $1 order by id limit $2");
    WAITING_FROM = concat!("select ", columns!(), " from checks where deadline is not null and id > $1 order by id limit $2");
    NEXT_DEADLINE = "select deadline from checks where deadline is not null order by deadline limit 1";
    COUNT = "select count(*) as checks from checks where deleted_at is null";
    COUNT_TELLING_NOBODY = "select count(*) as checks from checks c where c.deleted_at is null and not exists
        (select 1 from check_channels cc join channels ch on ch.id = cc.channel_id
         where cc.check_id = c.id and ch.deleted_at is null and ch.disabled_at is null)";
    INSERT = concat!("insert into checks (", own_columns!(), ", change_seq)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40)");
    // The indexed column is left out where it may stay as it is: naming it would rewrite its index entry.
    SAVE_STATE = "update checks set version = version + 1, status = $3, status_since = $4, last_ping_at = $5,
            last_start_at = $6, last_start_rid = $7, last_duration = $8, ping_count = $9, flip_count = $10,
            excused_until = $11, pings_not_kept = $12, last_success_at = $13, paused_until = $14, last_alive_at = $15
        where id = $1 and version = $2 and deleted_at is null";
    SAVE_STATE_AND_DEADLINE = "update checks set version = version + 1, status = $3, status_since = $4,
            last_ping_at = $5, last_start_at = $6, last_start_rid = $7, last_duration = $8, ping_count = $9,
            flip_count = $10, excused_until = $11, pings_not_kept = $12, last_success_at = $13, paused_until = $14,
            last_alive_at = $15, deadline = $16
        where id = $1 and version = $2 and deleted_at is null";
    SAVE_CHANGE_SEQ = "update checks set change_seq = $2 where id = $1 and project_id = $3";
    SAVE_SETTINGS = "update checks set version = version + 1, timing_kind = $2, period = $3, grace = $4, expression = $5, zone = $6,
            post_only = $7, manual_resume = $8, filter_http_body = $9, filter_subject = $10, filter_body = $11,
            filter_default_fail = $12, start_keywords = $13, success_keywords = $14, failure_keywords = $15,
            name = $16, slug = $17, tags = $18, description = $19,
            rules = $20, rules_state = case when $21 then rules_state end
        where id = $1 and project_id = $22";
    DELETE_SOFTLY = "update checks set deleted_at = $3, deadline = null, version = version + 1
        where id = $1 and project_id = $2 and deleted_at is null";
    TAGS_DELETE = "delete from check_tags where check_id = $1 and project_id = $2";
    TAG_INSERT = "insert into check_tags (check_id, tag, project_id, created_at) values ($1, $2, $3, $4)";
    CHANNELS_DELETE = "delete from check_channels where check_id = $1
        and exists (select 1 from checks c where c.id = $1 and c.project_id = $2)";
    // Inserts nothing for a channel of another project.
    CHANNEL_INSERT = "insert into check_channels (check_id, channel_id)
        select c.id, ch.id from checks c join channels ch on ch.project_id = c.project_id
        where c.id = $1 and ch.id = $2 and c.project_id = $3 and ch.deleted_at is null";
    CHANNELS_OF_CHECK = concat!("select cc.channel_id as channel_id
        from check_channels cc join channels ch on ch.id = cc.channel_id
        where cc.check_id = $1 and ch.deleted_at is null and ", in_scope!(), " order by cc.channel_id");
    CHANNELS_OF_PROJECT = "select cc.check_id as check_id, cc.channel_id as channel_id
        from channels ch join check_channels cc on cc.channel_id = ch.id join checks c on c.id = cc.check_id
        where ch.project_id = $1 and ch.deleted_at is null and c.deleted_at is null
        order by cc.check_id, cc.channel_id";
    DUE_IDS = "select id from checks where deadline <= $1 order by deadline limit $2";
    POSTPONE = "update checks set deadline = $2, version = version + 1 where id = $1 and deadline is not null";
}

impl FromColumns for Check {
    fn from_columns(row: &impl Columns) -> Result<Self> {
        read(row)
    }
}

pub(crate) fn from_row(row: &Row) -> Result<Check> {
    read(row)
}

fn read(row: &impl Columns) -> Result<Check> {
    let id = row.get("id")?;
    let project = row.get("project_id")?;
    let badge = row.get("badge_id")?;
    let created_at = row.get("created_at")?;
    let version = row.get("version")?;
    let deadline = row.get("deadline")?;
    let status = Status::from_number(row.get("status")?);
    let state = State {
        status: status.ok_or_else(|| Error::Corrupt(format!("check {id} has an unknown status")))?,
        status_since: row.get("status_since")?,
        last_ping: row.get("last_ping_at")?,
        last_start: row.get("last_start_at")?,
        last_start_rid: row.get("last_start_rid")?,
        last_duration: row.get("last_duration")?,
        excused_until: row.get("excused_until")?,
        ping_count: row.get("ping_count")?,
        flip_count: row.get("flip_count")?,
        recent: Recent::default(),
        not_kept: row.get("pings_not_kept")?,
        last_success: row.get("last_success_at")?,
        paused_until: row.get("paused_until")?,
        last_alive: row.get("last_alive_at")?,
    };
    let kind: i64 = row.get("timing_kind")?;
    let kind = if kind == 0 {
        TimingKind::Period
    } else {
        TimingKind::Expression
    };
    let (period, grace) = (row.get("period")?, row.get("grace")?);
    let timing = Timing {
        kind,
        period,
        expression: row.get("expression")?,
        zone: row.get("zone")?,
    };
    let filters = Filters {
        post_only: row.get("post_only")?,
        manual_resume: row.get("manual_resume")?,
        http_body: row.get("filter_http_body")?,
        subject: row.get("filter_subject")?,
        body: row.get("filter_body")?,
        default_fail: row.get("filter_default_fail")?,
        start_keywords: row.get("start_keywords")?,
        success_keywords: row.get("success_keywords")?,
        failure_keywords: row.get("failure_keywords")?,
        needs_key: row.get("needs_key")?,
    };
    let settings = Settings {
        name: row.get("name")?,
        slug: row.get("slug")?,
        tags: row.get("tags")?,
        description: row.get("description")?,
        timing,
        grace,
        filters,
        rules: Rules::OFF,
    };
    let (settings, state) = with_rules(row, id, settings, state)?;
    Ok(Check {
        id,
        project,
        badge,
        settings,
        state,
        deadline,
        version,
        created_at,
    })
}

const fn timing_number(kind: TimingKind) -> i64 {
    match kind {
        TimingKind::Period => 0,
        TimingKind::Expression => 1,
    }
}

fn state_values(check: &Check) -> [Param<'static>; 15] {
    let state = &check.state;
    [
        check.id.into(),
        check.version.into(),
        state.status.number().into(),
        state.status_since.into(),
        state.last_ping.into(),
        state.last_start.into(),
        state.last_start_rid.into(),
        state.last_duration.into(),
        state.ping_count.into(),
        state.flip_count.into(),
        state.excused_until.into(),
        state.not_kept.into(),
        state.last_success.into(),
        state.paused_until.into(),
        state.last_alive.into(),
    ]
}

fn state_and_deadline_values(check: &Check, deadline: Option<Timestamp>) -> [Param<'static>; 16] {
    let mut values = [Param::Null; 16];
    values[..15].copy_from_slice(&state_values(check));
    values[15] = deadline.into();
    values
}

/// What a ping's address found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing.
    None,
    /// One check.
    One(Box<Check>),
    /// Several checks share the slug.
    Ambiguous,
}

impl Reader<'_> {
    /// A check of any project: for pings, whose address is their right.
    pub async fn check_any(&mut self, _: SystemScope, id: CheckId) -> Result<Option<Check>> {
        self.first(&BY_ID, &[id.into()])
            .await?
            .as_ref()
            .map(from_row)
            .transpose()
    }

    /// Like [`Reader::check_any`] for several, one after the other.
    pub(crate) async fn checks_each(&mut self, _: SystemScope, ids: &[CheckId]) -> Result<Vec<Check>> {
        let ids: Vec<[Param<'_>; 1]> = ids.iter().map(|id| [(*id).into()]).collect();
        self.decoded(&BY_ID, &ids).await
    }

    /// The check of a project with this slug.
    pub async fn check_by_slug(&mut self, scope: ProjectScope, slug: &str) -> Result<Found> {
        let rows = self.all(&BY_SLUG, &[scope.project().into(), slug.into()]).await?;
        match rows.as_slice() {
            [] => Ok(Found::None),
            [row] => Ok(Found::One(Box::new(from_row(row)?))),
            _ => Ok(Found::Ambiguous),
        }
    }

    /// A check of this project.
    pub async fn check(&mut self, scope: ProjectScope, id: CheckId) -> Result<Option<Check>> {
        let check = self.check_any(SystemScope::engine(), id).await?;
        Ok(check.filter(|check| check.project == scope.project()))
    }

    /// All checks of a project in the order of their making.
    pub async fn checks(&mut self, scope: ProjectScope) -> Result<Vec<Check>> {
        self.all(&OF_PROJECT, &[scope.project().into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// The checks of a project with this slug, in the order of their making.
    pub async fn checks_by_slug(&mut self, scope: ProjectScope, slug: &str) -> Result<Vec<Check>> {
        let rows = self
            .all(&OF_PROJECT_BY_SLUG, &[scope.project().into(), slug.into()])
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// The checks of a project that bear this tag, in the order of their making.
    pub async fn checks_by_tag(&mut self, scope: ProjectScope, tag: &str) -> Result<Vec<Check>> {
        let rows = self
            .all(&OF_PROJECT_BY_TAG, &[scope.project().into(), tag.into()])
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// The ids of a project's checks in the order of their making.
    pub async fn check_ids(&mut self, scope: ProjectScope) -> Result<Vec<CheckId>> {
        self.all(&IDS_OF_PROJECT, &[scope.project().into()])
            .await?
            .iter()
            .map(|row| row.get("id"))
            .collect()
    }

    /// Checks whose stored wake-up has come, the earliest first.
    pub async fn checks_due(&mut self, _: SystemScope, now: Timestamp, limit: i64) -> Result<Vec<Check>> {
        self.all(&DUE, &[now.into(), limit.into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// Like [`Reader::checks_due`], and gives only ids: for a sweep that met a row it cannot read.
    pub async fn check_ids_due(
        &mut self,
        _: SystemScope,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<CheckId>> {
        self.all(&DUE_IDS, &[now.into(), limit.into()])
            .await?
            .iter()
            .map(|row| row.get("id"))
            .collect()
    }

    /// Checks with a cron or OnCalendar expression, by id, behind `after`.
    pub async fn checks_by_expression(
        &mut self,
        _: SystemScope,
        after: CheckId,
        limit: i64,
    ) -> Result<Vec<Check>> {
        self.all(&BY_EXPRESSION, &[after.into(), limit.into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// Checks that wait for something, by id, behind `after`.
    pub async fn checks_waiting(&mut self, _: SystemScope, after: CheckId, limit: i64) -> Result<Vec<Check>> {
        self.all(&WAITING_FROM, &[after.into(), limit.into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// The earliest stored wake-up of all checks.
    pub async fn check_next_deadline(&mut self, _: SystemScope) -> Result<Option<Timestamp>> {
        self.first(&NEXT_DEADLINE, &[])
            .await?
            .map(|row| row.get("deadline"))
            .transpose()
    }

    /// How many checks there are.
    pub async fn check_count(&mut self, _: SystemScope) -> Result<i64> {
        Ok(self
            .first(&COUNT, &[])
            .await?
            .map(|row| row.get("checks"))
            .transpose()?
            .unwrap_or(0))
    }

    /// How many checks have no channel, or only such as are switched off. Looks at each check: for whoever asks by hand.
    pub async fn check_count_telling_nobody(&mut self, _: SystemScope) -> Result<i64> {
        let row = self.first(&COUNT_TELLING_NOBODY, &[]).await?;
        Ok(row.map(|row| row.get("checks")).transpose()?.unwrap_or(0))
    }

    /// The channels a check tells, by id.
    pub async fn check_channels(&mut self, scope: ProjectScope, id: CheckId) -> Result<Vec<ChannelId>> {
        self.all(&CHANNELS_OF_CHECK, &[id.into(), scope.project().into()])
            .await?
            .iter()
            .map(|row| row.get("channel_id"))
            .collect()
    }

    /// The channels of all checks of a project, sorted by check and channel.
    pub async fn check_channels_of_project(
        &mut self,
        scope: ProjectScope,
    ) -> Result<Vec<(CheckId, ChannelId)>> {
        let rows = self.all(&CHANNELS_OF_PROJECT, &[scope.project().into()]).await?;
        rows.iter()
            .map(|row| Ok((row.get("check_id")?, row.get("channel_id")?)))
            .collect()
    }
}

/// What a write stops at that was handed the check of another project.
fn in_project(scope: ProjectScope, check: &Check) -> Result<()> {
    if check.project == scope.project() {
        return Ok(());
    }
    let project = scope.project();
    Err(Error::Conflict(format!(
        "check {} is not of project {project}",
        check.id
    )))
}

impl Tx<'_> {
    /// [`Reader::checks_due`], but for those that another transaction has taken or is changing; they are this one's until
    /// it ends.
    pub async fn checks_due_taken(
        &mut self,
        _: SystemScope,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<Check>> {
        self.all(&DUE_TAKEN, &[now.into(), limit.into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// Keeps others from changing a check until the transaction ends. For edits by people and programs; pings and the
    /// sweep look at the version instead, and never wait for each other's decisions. One of another project is left alone.
    pub async fn check_lock(&mut self, scope: ProjectScope, id: CheckId) -> Result<()> {
        let values = [id.into(), scope.project().into()];
        self.first(&LOCK, &values).await.map(drop)
    }

    /// Writes a new check with its tags. `Conflict` if it is of another project.
    pub async fn check_insert(&mut self, scope: ProjectScope, check: &Check) -> Result<()> {
        in_project(scope, check)?;
        let seq = self.change_next(scope).await?;
        let (settings, state) = (&check.settings, &check.state);
        let (timing, filters) = (&settings.timing, &settings.filters);
        let (rules, recent) = (settings.rules.to_stored(), state.recent.to_stored());
        let values = [
            check.id.into(),
            check.project.into(),
            check.badge.into(),
            check.created_at.into(),
            check.version.into(),
            check.deadline.into(),
            state.status.number().into(),
            state.status_since.into(),
            state.last_ping.into(),
            state.last_start.into(),
            state.last_start_rid.into(),
            state.last_duration.into(),
            state.excused_until.into(),
            state.ping_count.into(),
            state.flip_count.into(),
            timing_number(timing.kind).into(),
            timing.period.into(),
            settings.grace.into(),
            (&timing.expression).into(),
            (&timing.zone).into(),
            filters.post_only.into(),
            filters.manual_resume.into(),
            filters.http_body.into(),
            filters.subject.into(),
            filters.body.into(),
            filters.default_fail.into(),
            (&filters.start_keywords).into(),
            (&filters.success_keywords).into(),
            (&filters.failure_keywords).into(),
            (&settings.name).into(),
            (&settings.slug).into(),
            (&settings.tags).into(),
            (&settings.description).into(),
            rules.as_deref().into(),
            recent.as_deref().into(),
            state.not_kept.into(),
            state.last_success.into(),
            state.paused_until.into(),
            state.last_alive.into(),
            seq.into(),
        ];
        self.run(&INSERT, &values).await?;
        self.tags_insert(check).await
    }

    /// Writes the state of a check, if nobody changed the row since it was read: `false` if somebody did. On success
    /// the check carries its new version and stored wake-up.
    ///
    /// `deadline` is the true one. The stored wake-up may be earlier, so one that only moves away is left alone: the
    /// sweep will look, and move on (spec/stack.md B.2).
    pub async fn check_save_state(
        &mut self,
        system: SystemScope,
        check: &mut Check,
        deadline: Option<Timestamp>,
    ) -> Result<bool> {
        let may_stay = match (check.deadline, deadline) {
            (Some(stored), Some(new)) => stored <= new,
            (stored, new) => stored == new,
        };
        if may_stay {
            let changed = self.run(&SAVE_STATE, &state_values(check)).await?;
            if changed > 0 {
                check.version += 1;
                self.check_save_recent(&[check]).await?;
            }
            return Ok(changed > 0);
        }
        self.check_save_state_and_deadline(system, check, deadline).await
    }

    /// [`Tx::check_save_state`] for each; tells which were written.
    pub(crate) async fn check_save_states(&mut self, changed: &mut [Changed<'_>]) -> Result<Vec<bool>> {
        let stay = changed.iter().filter(|changed| !changed.moves());
        let stay: Vec<_> = stay.map(|changed| state_values(changed.check)).collect();
        let mut stayed = self.run_each(&SAVE_STATE, &stay).await?.into_iter();
        let moves = changed.iter().filter(|changed| changed.moves());
        let moves: Vec<_> = moves
            .map(|changed| state_and_deadline_values(changed.check, changed.deadline))
            .collect();
        let mut moved = self.run_each(&SAVE_STATE_AND_DEADLINE, &moves).await?.into_iter();
        let mut won = Vec::with_capacity(changed.len());
        for changed in changed {
            let moves = changed.moves();
            let rows = if moves { moved.next() } else { stayed.next() };
            let is_won = rows.is_some_and(|rows| rows > 0);
            if is_won {
                changed.check.version += 1;
                if moves {
                    changed.check.deadline = changed.deadline;
                }
            }
            won.push(is_won);
        }
        Ok(won)
    }

    /// Like [`Tx::check_save_state`], and moves the stored wake-up to the true deadline in any case: for the sweep,
    /// which would find the check again at once otherwise.
    pub async fn check_save_state_and_deadline(
        &mut self,
        _: SystemScope,
        check: &mut Check,
        deadline: Option<Timestamp>,
    ) -> Result<bool> {
        let values = state_and_deadline_values(check, deadline);
        if self.run(&SAVE_STATE_AND_DEADLINE, &values).await? == 0 {
            return Ok(false);
        }
        check.version += 1;
        check.deadline = deadline;
        self.check_save_recent(&[check]).await?;
        Ok(true)
    }

    /// Moves the stored wake-up of a check that waits for one, whatever else its row holds.
    pub async fn check_postpone(&mut self, _: SystemScope, id: CheckId, until: Timestamp) -> Result<bool> {
        Ok(self.run(&POSTPONE, &[id.into(), until.into()]).await? > 0)
    }

    /// Notes the project's change number on a check that was edited. Flips bear their own and leave this one alone, so
    /// that neither hides the other from those who listen.
    pub async fn check_mark_changed(&mut self, scope: ProjectScope, check: &Check, seq: i64) -> Result<()> {
        let values = [check.id.into(), seq.into(), scope.project().into()];
        self.run(&SAVE_CHANGE_SEQ, &values).await.map(drop)
    }

    /// Writes the settings of a check and its tags. `Conflict` if it is of another project. Its version moves on, as with
    /// every change that a ping must see.
    pub async fn check_save_settings(&mut self, scope: ProjectScope, check: &mut Check) -> Result<()> {
        in_project(scope, check)?;
        let settings = &check.settings;
        let (timing, filters) = (&settings.timing, &settings.filters);
        let rules = settings.rules.to_stored();
        let values = [
            check.id.into(),
            timing_number(timing.kind).into(),
            timing.period.into(),
            settings.grace.into(),
            (&timing.expression).into(),
            (&timing.zone).into(),
            filters.post_only.into(),
            filters.manual_resume.into(),
            filters.http_body.into(),
            filters.subject.into(),
            filters.body.into(),
            filters.default_fail.into(),
            (&filters.start_keywords).into(),
            (&filters.success_keywords).into(),
            (&filters.failure_keywords).into(),
            (&settings.name).into(),
            (&settings.slug).into(),
            (&settings.tags).into(),
            (&settings.description).into(),
            rules.as_deref().into(),
            settings.rules.remember().into(),
            scope.project().into(),
        ];
        self.run(&SAVE_SETTINGS, &values).await?;
        check.version += 1;
        let ours = [check.id.into(), scope.project().into()];
        self.run(&TAGS_DELETE, &ours).await?;
        self.tags_insert(check).await
    }

    async fn tags_insert(&mut self, check: &Check) -> Result<()> {
        for tag in check.settings.tag_list() {
            let (project, at) = (check.project.into(), check.created_at.into());
            self.run(&TAG_INSERT, &[check.id.into(), tag.into(), project, at])
                .await?;
        }
        Ok(())
    }

    /// Sets the channels a check tells. `Conflict` if one is not of the project, or the check is not; without channels a check
    /// of another project keeps its own.
    pub async fn check_set_channels(
        &mut self,
        scope: ProjectScope,
        id: CheckId,
        channels: &[ChannelId],
    ) -> Result<()> {
        let project = scope.project();
        self.run(&CHANNELS_DELETE, &[id.into(), project.into()]).await?;
        for channel in channels {
            let values = [id.into(), (*channel).into(), project.into()];
            if self.run(&CHANNEL_INSERT, &values).await? == 0 {
                return Err(Error::Conflict(format!(
                    "check {id} and channel {channel} are not both of project {project}"
                )));
            }
        }
        Ok(())
    }

    /// Marks a check as deleted: it is gone for everybody, and its rows go when the days for undoing are over.
    pub async fn check_delete(&mut self, scope: ProjectScope, id: CheckId, now: Timestamp) -> Result<bool> {
        let project: ProjectId = scope.project();
        let changed = self
            .run(&DELETE_SOFTLY, &[id.into(), project.into(), now.into()])
            .await?;
        if changed > 0 {
            let seq = self.change_next(scope).await?;
            let values = [id.into(), seq.into(), project.into()];
            self.run(&SAVE_CHANGE_SEQ, &values).await?;
        }
        Ok(changed > 0)
    }
}
