-- What the native API needs: pages by time and by change, answers that are given again, keys that sign, and counts of
-- wrong keys.

create index checks_by_change on checks (project_id, change_seq);
create index incidents_by_project on incidents (project_id, opened_at, check_id, opened_seq);

create table idempotency (
    id         uuid   not null primary key,
    project_id uuid   not null references projects (id) on delete cascade,
    body_hash  bytea  not null,
    status     bigint not null,
    sealed     bytea,
    created_at bigint not null
);
create index idempotency_by_project on idempotency (project_id);
create index idempotency_by_time on idempotency (created_at);
comment on table idempotency is
    'answers to POSTs that named an Idempotency-Key; key and body are known by hashes, the answer is sealed';

create table signing_keys (
    id           uuid   not null primary key,
    project_id   uuid   not null references projects (id) on delete cascade,
    kind         text   not null,
    name         text   not null,
    sealed       bytea  not null,
    created_at   bigint not null,
    expires_at   bigint,
    last_used_at bigint,
    revoked_at   bigint,
    constraint kind_is_known check (kind in ('read-write', 'read-only'))
);
create index signing_keys_by_project on signing_keys (project_id, created_at, id);
comment on table signing_keys is 'keys with which callers sign; we must make the same signature, so they are sealed';

create table nonces (
    key_id uuid             not null references signing_keys (id) on delete cascade,
    nonce  text collate "C" not null,
    at     bigint           not null,
    primary key (key_id, nonce)
);
create index nonces_by_time on nonces (at);
comment on table nonces is 'what was signed once is not taken twice';

create table wrong_keys (
    client text collate "C" not null,
    minute bigint           not null,
    tries  bigint           not null,
    primary key (client, minute)
);
create index wrong_keys_by_minute on wrong_keys (minute);
comment on table wrong_keys is 'wrong keys by client and minute, shared by all nodes';

alter table projects add column require_hmac boolean not null default false;
