-- What the native API needs: pages by time and by change, answers that are given again, keys that sign, and counts of
-- wrong keys.

create index checks_by_change on checks (project_id, change_seq);
create index incidents_by_project on incidents (project_id, opened_at, check_id, opened_seq);

-- Answers to POSTs that named an Idempotency-Key. Key and body are known by hashes; the answer is sealed.
create table idempotency (
    id         blob    not null primary key,
    project_id blob    not null references projects (id) on delete cascade,
    body_hash  blob    not null,
    status     integer not null,
    sealed     blob,
    created_at integer not null
) strict, without rowid;
create index idempotency_by_project on idempotency (project_id);
create index idempotency_by_time on idempotency (created_at);

-- Keys with which callers sign. We must make the same signature, so they are sealed and not hashed.
create table signing_keys (
    id           blob    not null primary key,
    project_id   blob    not null references projects (id) on delete cascade,
    kind         text    not null,
    name         text    not null,
    sealed       blob    not null,
    created_at   integer not null,
    expires_at   integer,
    last_used_at integer,
    revoked_at   integer,
    constraint kind_is_known check (kind in ('read-write', 'read-only'))
) strict, without rowid;
create index signing_keys_by_project on signing_keys (project_id, created_at, id);

-- What was signed once is not taken twice.
create table nonces (
    key_id blob    not null references signing_keys (id) on delete cascade,
    nonce  text    not null,
    at     integer not null,
    primary key (key_id, nonce)
) strict, without rowid;
create index nonces_by_time on nonces (at);

-- Wrong keys by client and minute, shared by all nodes.
create table wrong_keys (
    client text    not null,
    minute integer not null,
    tries  integer not null,
    primary key (client, minute)
) strict, without rowid;
create index wrong_keys_by_minute on wrong_keys (minute);

alter table projects add column require_hmac integer not null default 0
    constraint require_hmac_is_boolean check (require_hmac in (0, 1));
