-- The first schema; the same as the SQLite one beside it. Instants and lengths of time are microseconds (instants since
-- 1970 UTC). Text that is sorted, paged by or indexed has the collation "C", whose order is the other database's.
-- Hot tables (pings, flips, incidents, deliveries, attempts) begin their key with the check's id and carry
-- no foreign keys: they can be partitioned by it, and a ping pays for no second look-up. Who deletes a check deletes
-- their rows too (retention.rs), and a test holds that nothing is left.

create table instance (
    name  text collate "C" not null primary key,
    value text not null
);

create table users (
    id            uuid not null primary key,
    email         text not null,
    email_folded  text collate "C" not null,
    password_hash text,
    is_admin      boolean not null,
    check_limit   bigint not null,
    created_at    bigint not null,
    import_id     text,
    constraint one_account_per_email unique (email_folded),
    constraint check_limit_not_negative check (check_limit >= 0)
);

create table projects (
    id         uuid not null primary key,
    owner_id   uuid not null references users (id),
    name       text collate "C" not null,
    created_at bigint not null,
    deleted_at bigint,
    import_id  text
);
create index projects_by_owner on projects (owner_id);
create index projects_by_deletion on projects (deleted_at) where deleted_at is not null;

-- Apart from projects, since it moves with every flip and edit.
create table project_changes (
    project_id uuid not null primary key references projects (id) on delete cascade,
    seq        bigint not null
);

create table members (
    project_id uuid not null references projects (id) on delete cascade,
    user_id    uuid not null references users (id) on delete cascade,
    role       text not null,
    created_at bigint not null,
    primary key (project_id, user_id),
    constraint role_is_known check (role in ('owner', 'manager', 'member', 'read-only'))
);
create index members_by_user on members (user_id);

create table data_keys (
    id         uuid not null primary key,
    project_id uuid references projects (id) on delete cascade,
    root_key   text collate "C" not null,
    wrapped    bytea not null,
    created_at bigint not null,
    retired_at bigint
);
create unique index one_data_key_per_project on data_keys (project_id)
    where project_id is not null and retired_at is null;
create unique index one_data_key_of_the_instance on data_keys ((retired_at is null))
    where project_id is null and retired_at is null;

create table api_keys (
    id             uuid not null primary key,
    project_id     uuid not null references projects (id) on delete cascade,
    kind           text not null,
    name           text collate "C" not null,
    scheme         text not null,
    lookup         text collate "C" not null,
    hash           bytea not null,
    sealed         bytea,
    created_at     bigint not null,
    expires_at     bigint,
    last_used_at   bigint,
    revoked_at     bigint,
    import_id      text,
    constraint kind_is_known check (kind in ('read-write', 'read-only', 'ping')),
    constraint scheme_is_known check (scheme in ('hmac-sha256')),
    constraint only_ping_keys_can_be_shown check (sealed is null or kind = 'ping')
);
create index api_keys_by_lookup on api_keys (lookup);
create index api_keys_by_project on api_keys (project_id);

create table checks (
    id                  uuid not null primary key,
    project_id          uuid not null references projects (id),
    badge_id            uuid not null,
    created_at          bigint not null,
    version             bigint not null,
    change_seq          bigint not null,
    deadline            bigint,
    status              bigint not null,
    status_since        bigint not null,
    last_ping_at        bigint,
    last_start_at       bigint,
    last_start_rid      uuid,
    last_duration       bigint,
    excused_until       bigint,
    ping_count          bigint not null,
    flip_count          bigint not null,
    timing_kind         bigint not null,
    period              bigint not null,
    grace               bigint not null,
    expression          text not null,
    zone                text not null,
    post_only           boolean not null,
    manual_resume       boolean not null,
    filter_http_body    boolean not null,
    filter_subject      boolean not null,
    filter_body         boolean not null,
    filter_default_fail boolean not null,
    start_keywords      text not null,
    success_keywords    text not null,
    failure_keywords    text not null,
    name                text collate "C" not null,
    slug                text collate "C" not null,
    tags                text not null,
    deleted_at          bigint,
    import_id           text,
    description         text not null,
    constraint status_is_known check (status between 0 and 3),
    constraint timing_kind_is_known check (timing_kind in (0, 1)),
    constraint counts_not_negative check (ping_count >= 0 and flip_count >= 0),
    constraint grace_positive check (grace > 0 and period > 0),
    constraint deleted_checks_wait_for_nothing check (deleted_at is null or deadline is null),
    constraint run_id_needs_a_run check (last_start_rid is null or last_start_at is not null)
);
create index checks_by_project on checks (project_id, created_at, id);
create index checks_by_slug on checks (project_id, slug) where slug <> '';
create index checks_by_deadline on checks (deadline) where deadline is not null;
create index checks_by_deletion on checks (deleted_at) where deleted_at is not null;
create unique index checks_by_badge on checks (badge_id);

create table check_tags (
    check_id   uuid not null references checks (id) on delete cascade,
    tag        text collate "C" not null,
    project_id uuid not null,
    primary key (check_id, tag)
);
create index check_tags_by_tag on check_tags (project_id, tag);

create table pings (
    check_id    uuid not null,
    n           bigint not null,
    at          bigint not null,
    kind        bigint not null,
    source      bigint not null,
    exit_status bigint,
    rid         uuid,
    scheme      text not null,
    method      text not null,
    remote_addr text,
    user_agent  text not null,
    body_bytes  bigint not null,
    body_id     bigint,
    primary key (check_id, n),
    constraint kind_is_known check (kind between 0 and 4),
    constraint source_is_known check (source between 0 and 4),
    constraint exit_status_is_a_byte check (exit_status between 0 and 255)
);

-- Bodies are appended, and found by the number that their ping's row holds: an index of their own by check and ping
-- would have each of them go to another page. Whoever inserts brings the number, and takes many from the sequence at once.
-- A role that serves is granted tables and nothing else: all may take numbers, which is all that usage is.
create sequence ping_body_ids increment by 1024;
grant usage on sequence ping_body_ids to public;
-- What is sealed was packed before: `packed.rs`.
create table ping_bodies (
    id       bigint not null primary key,
    check_id uuid not null,
    n        bigint not null,
    sealed   bytea not null
);

-- A check whose log has grown by a page, or which has flipped, since retention last looked.
create table prune_due (
    check_id uuid not null primary key
);

create table flips (
    check_id    uuid not null,
    seq         bigint not null,
    project_id  uuid not null,
    change_seq  bigint not null,
    at          bigint not null,
    noticed_at  bigint not null,
    from_status bigint not null,
    to_status   bigint not null,
    expected_at bigint,
    reason_code text not null,
    reason_data text not null,
    primary key (check_id, seq),
    constraint a_flip_changes_the_status check (from_status <> to_status),
    constraint statuses_are_known check (from_status between 0 and 3 and to_status between 0 and 3)
);
create index flips_by_change on flips (project_id, change_seq);

create table incidents (
    check_id   uuid not null,
    opened_seq bigint not null,
    project_id uuid not null,
    opened_at  bigint not null,
    closed_seq bigint,
    closed_at  bigint,
    primary key (check_id, opened_seq),
    constraint closed_whole check ((closed_seq is null) = (closed_at is null)),
    constraint closed_after_opened check (closed_seq > opened_seq and closed_at >= opened_at)
);
create unique index one_open_incident_per_check on incidents (check_id) where closed_seq is null;
create index incidents_by_end on incidents (closed_at) where closed_at is not null;

create table channels (
    id            uuid not null primary key,
    project_id    uuid not null references projects (id),
    kind          text not null,
    name          text collate "C" not null,
    sealed_config bytea not null,
    tells_down    boolean not null,
    tells_up      boolean not null,
    created_at    bigint not null,
    disabled_at   bigint,
    deleted_at    bigint,
    import_id     text
);
create index channels_by_project on channels (project_id, created_at, id);

create table check_channels (
    check_id   uuid not null references checks (id) on delete cascade,
    channel_id uuid not null references channels (id) on delete cascade,
    primary key (check_id, channel_id)
);
create index check_channels_by_channel on check_channels (channel_id);

create table deliveries (
    shard        uuid not null,
    id           uuid not null,
    project_id   uuid not null,
    channel_id   uuid not null,
    class        text not null,
    state        text not null,
    attempts     bigint not null,
    next_at      bigint not null,
    expires_at   bigint not null,
    lease_owner  uuid,
    lease_until  bigint,
    created_at   bigint not null,
    finished_at  bigint,
    last_outcome text,
    primary key (shard, id),
    constraint class_is_known check (class in ('alert', 'job', 'report', 'test')),
    constraint state_is_known check (state in
        ('ready', 'leased', 'delivered', 'superseded', 'expired', 'cancelled', 'exhausted', 'blocked')),
    constraint done_iff_finished check ((state in ('ready', 'leased')) = (finished_at is null)),
    constraint leased_iff_owned check
        ((state = 'leased') = (lease_owner is not null) and (lease_owner is null) = (lease_until is null))
);
create index deliveries_due on deliveries (next_at) where state = 'ready';
create index deliveries_leased on deliveries (lease_until) where state = 'leased';
create index deliveries_finished on deliveries (finished_at) where finished_at is not null;

create table delivery_flips (
    check_id    uuid not null,
    flip_seq    bigint not null,
    channel_id  uuid not null,
    occasion    bigint not null,
    delivery_id uuid not null,
    primary key (check_id, flip_seq, channel_id, occasion)
);

create table attempts (
    shard         uuid not null,
    delivery_id   uuid not null,
    n             bigint not null,
    started_at    bigint not null,
    duration      bigint not null,
    outcome       text not null,
    sealed_detail bytea,
    primary key (shard, delivery_id, n)
);

create table audit (
    id         uuid not null primary key,
    at         bigint not null,
    project_id uuid,
    actor      text not null,
    action     text not null,
    target     text not null,
    data       text not null
);
create index audit_by_project on audit (project_id, at);
create index audit_by_time on audit (at);

-- The last sign of life of each node, whether it was its farewell, and the times when there was none of any.
create table awake (
    node_id uuid    not null primary key,
    seen_at bigint  not null,
    ended   boolean not null
);

create table absences (
    from_at bigint not null primary key,
    to_at   bigint not null,
    constraint an_absence_ends_after_it_began check (to_at > from_at)
);
create index absences_by_end on absences (to_at);

create table start_links (
    hash       bytea not null primary key,
    created_at bigint not null,
    expires_at bigint not null
);
