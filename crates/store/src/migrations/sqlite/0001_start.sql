-- The first schema. Instants and lengths of time are microseconds (instants since 1970 UTC), ids are 16 bytes.
-- Hot tables (pings, flips, incidents, deliveries, attempts) begin their key with the check's id and carry
-- no foreign keys: they can be partitioned by it, and a ping pays for no second look-up. Who deletes a check deletes
-- their rows too (retention.rs), and a test holds that nothing is left.

create table instance (
    name  text not null primary key,
    value text not null
) strict, without rowid;

create table users (
    id            blob    not null primary key,
    email         text    not null,
    email_folded  text    not null,
    password_hash text,
    is_admin      integer not null,
    check_limit   integer not null,
    created_at    integer not null,
    import_id     text,
    constraint one_account_per_email unique (email_folded),
    constraint is_admin_is_boolean check (is_admin in (0, 1)),
    constraint check_limit_not_negative check (check_limit >= 0)
) strict, without rowid;

create table projects (
    id         blob    not null primary key,
    owner_id   blob    not null references users (id),
    name       text    not null,
    created_at integer not null,
    deleted_at integer,
    import_id  text
) strict, without rowid;
create index projects_by_owner on projects (owner_id);
create index projects_by_deletion on projects (deleted_at) where deleted_at is not null;

-- Apart from projects, since it moves with every flip and edit.
create table project_changes (
    project_id blob    not null primary key references projects (id) on delete cascade,
    seq        integer not null
) strict, without rowid;

create table members (
    project_id blob    not null references projects (id) on delete cascade,
    user_id    blob    not null references users (id) on delete cascade,
    role       text    not null,
    created_at integer not null,
    primary key (project_id, user_id),
    constraint role_is_known check (role in ('owner', 'manager', 'member', 'read-only'))
) strict, without rowid;
create index members_by_user on members (user_id);

create table data_keys (
    id         blob    not null primary key,
    project_id blob    references projects (id) on delete cascade,
    root_key   text    not null,
    wrapped    blob    not null,
    created_at integer not null,
    retired_at integer
) strict, without rowid;
create unique index one_data_key_per_project on data_keys (project_id)
    where project_id is not null and retired_at is null;
create unique index one_data_key_of_the_instance on data_keys (retired_at is null)
    where project_id is null and retired_at is null;

create table api_keys (
    id             blob    not null primary key,
    project_id     blob    not null references projects (id) on delete cascade,
    kind           text    not null,
    name           text    not null,
    scheme         text    not null,
    lookup         text    not null,
    hash           blob    not null,
    sealed         blob,
    created_at     integer not null,
    expires_at     integer,
    last_used_at   integer,
    revoked_at     integer,
    import_id      text,
    constraint kind_is_known check (kind in ('read-write', 'read-only', 'ping')),
    constraint scheme_is_known check (scheme in ('hmac-sha256')),
    constraint only_ping_keys_can_be_shown check (sealed is null or kind = 'ping')
) strict, without rowid;
create index api_keys_by_lookup on api_keys (lookup);
create index api_keys_by_project on api_keys (project_id);

create table checks (
    id                  blob    not null primary key,
    project_id          blob    not null references projects (id),
    badge_id            blob    not null,
    created_at          integer not null,
    version             integer not null,
    change_seq          integer not null,
    deadline            integer,
    status              integer not null,
    status_since        integer not null,
    last_ping_at        integer,
    last_start_at       integer,
    last_start_rid      blob,
    last_duration       integer,
    excused_until       integer,
    ping_count          integer not null,
    flip_count          integer not null,
    timing_kind         integer not null,
    period              integer not null,
    grace               integer not null,
    expression          text    not null,
    zone                text    not null,
    post_only           integer not null,
    manual_resume       integer not null,
    filter_http_body    integer not null,
    filter_subject      integer not null,
    filter_body         integer not null,
    filter_default_fail integer not null,
    start_keywords      text    not null,
    success_keywords    text    not null,
    failure_keywords    text    not null,
    name                text    not null,
    slug                text    not null,
    tags                text    not null,
    deleted_at          integer,
    import_id           text,
    description         text    not null,
    constraint status_is_known check (status between 0 and 3),
    constraint timing_kind_is_known check (timing_kind in (0, 1)),
    constraint counts_not_negative check (ping_count >= 0 and flip_count >= 0),
    constraint grace_positive check (grace > 0 and period > 0),
    constraint deleted_checks_wait_for_nothing check (deleted_at is null or deadline is null),
    constraint run_id_needs_a_run check (last_start_rid is null or last_start_at is not null)
) strict, without rowid;
create index checks_by_project on checks (project_id, created_at, id);
create index checks_by_slug on checks (project_id, slug) where slug <> '';
create index checks_by_deadline on checks (deadline) where deadline is not null;
create index checks_by_deletion on checks (deleted_at) where deleted_at is not null;
create unique index checks_by_badge on checks (badge_id);

create table check_tags (
    check_id   blob not null references checks (id) on delete cascade,
    tag        text not null,
    project_id blob not null,
    primary key (check_id, tag)
) strict, without rowid;
create index check_tags_by_tag on check_tags (project_id, tag);

create table pings (
    check_id    blob    not null,
    n           integer not null,
    at          integer not null,
    kind        integer not null,
    source      integer not null,
    exit_status integer,
    rid         blob,
    scheme      text    not null,
    method      text    not null,
    remote_addr text,
    user_agent  text    not null,
    body_bytes  integer not null,
    body_id     integer,
    primary key (check_id, n),
    constraint kind_is_known check (kind between 0 and 4),
    constraint source_is_known check (source between 0 and 4),
    constraint exit_status_is_a_byte check (exit_status between 0 and 255)
) strict, without rowid;

-- Bodies are appended, and found by the number that their ping's row holds: with a key of their own they would need a
-- second tree, in which each goes to another page. A number may come again after its row was deleted, so whoever follows
-- one looks at check and ping too.
-- What is sealed was packed before: `packed.rs`.
create table ping_bodies (
    id       integer not null primary key,
    check_id blob    not null,
    n        integer not null,
    sealed   blob    not null
) strict;

-- A check whose log has grown by a page, or which has flipped, since retention last looked.
create table prune_due (
    check_id blob not null primary key
) strict, without rowid;

create table flips (
    check_id    blob    not null,
    seq         integer not null,
    project_id  blob    not null,
    change_seq  integer not null,
    at          integer not null,
    noticed_at  integer not null,
    from_status integer not null,
    to_status   integer not null,
    expected_at integer,
    reason_code text    not null,
    reason_data text    not null,
    primary key (check_id, seq),
    constraint a_flip_changes_the_status check (from_status <> to_status),
    constraint statuses_are_known check (from_status between 0 and 3 and to_status between 0 and 3)
) strict, without rowid;
create index flips_by_change on flips (project_id, change_seq);

create table incidents (
    check_id   blob    not null,
    opened_seq integer not null,
    project_id blob    not null,
    opened_at  integer not null,
    closed_seq integer,
    closed_at  integer,
    primary key (check_id, opened_seq),
    constraint closed_whole check ((closed_seq is null) = (closed_at is null)),
    constraint closed_after_opened check (closed_seq > opened_seq and closed_at >= opened_at)
) strict, without rowid;
create unique index one_open_incident_per_check on incidents (check_id) where closed_seq is null;
create index incidents_by_end on incidents (closed_at) where closed_at is not null;

create table channels (
    id            blob    not null primary key,
    project_id    blob    not null references projects (id),
    kind          text    not null,
    name          text    not null,
    sealed_config blob    not null,
    tells_down    integer not null,
    tells_up      integer not null,
    created_at    integer not null,
    disabled_at   integer,
    deleted_at    integer,
    import_id     text,
    constraint tells_are_boolean check (tells_down in (0, 1) and tells_up in (0, 1))
) strict, without rowid;
create index channels_by_project on channels (project_id, created_at, id);

create table check_channels (
    check_id   blob not null references checks (id) on delete cascade,
    channel_id blob not null references channels (id) on delete cascade,
    primary key (check_id, channel_id)
) strict, without rowid;
create index check_channels_by_channel on check_channels (channel_id);

create table deliveries (
    shard        blob    not null,
    id           blob    not null,
    project_id   blob    not null,
    channel_id   blob    not null,
    class        text    not null,
    state        text    not null,
    attempts     integer not null,
    next_at      integer not null,
    expires_at   integer not null,
    lease_owner  blob,
    lease_until  integer,
    created_at   integer not null,
    finished_at  integer,
    last_outcome text,
    primary key (shard, id),
    constraint class_is_known check (class in ('alert', 'job', 'report', 'test')),
    constraint state_is_known check (state in
        ('ready', 'leased', 'delivered', 'superseded', 'expired', 'cancelled', 'exhausted', 'blocked')),
    constraint done_iff_finished check ((state in ('ready', 'leased')) = (finished_at is null)),
    constraint leased_iff_owned check
        ((state = 'leased') = (lease_owner is not null) and (lease_owner is null) = (lease_until is null))
) strict, without rowid;
create index deliveries_due on deliveries (next_at) where state = 'ready';
create index deliveries_leased on deliveries (lease_until) where state = 'leased';
create index deliveries_finished on deliveries (finished_at) where finished_at is not null;

create table delivery_flips (
    check_id    blob    not null,
    flip_seq    integer not null,
    channel_id  blob    not null,
    occasion    integer not null,
    delivery_id blob    not null,
    primary key (check_id, flip_seq, channel_id, occasion)
) strict, without rowid;

create table attempts (
    shard         blob    not null,
    delivery_id   blob    not null,
    n             integer not null,
    started_at    integer not null,
    duration      integer not null,
    outcome       text    not null,
    sealed_detail blob,
    primary key (shard, delivery_id, n)
) strict, without rowid;

create table audit (
    id         blob    not null primary key,
    at         integer not null,
    project_id blob,
    actor      text    not null,
    action     text    not null,
    target     text    not null,
    data       text    not null
) strict, without rowid;
create index audit_by_project on audit (project_id, at);
create index audit_by_time on audit (at);

-- The last sign of life of each node, whether it was its farewell, and the times when there was none of any.
create table awake (
    node_id blob    not null primary key,
    seen_at integer not null,
    ended   integer not null,
    constraint ended_is_boolean check (ended in (0, 1))
) strict, without rowid;

create table absences (
    from_at integer not null primary key,
    to_at   integer not null,
    constraint an_absence_ends_after_it_began check (to_at > from_at)
) strict;
create index absences_by_end on absences (to_at);

create table start_links (
    hash       blob    not null primary key,
    created_at integer not null,
    expires_at integer not null
) strict, without rowid;
