-- Keys bound to networks, keys that were regenerated, where keys were last used from, and keys for scrapers. A column's
-- constraint cannot be changed here, so the table is written anew; nothing refers to it.

create table api_keys_new (
    id             blob    not null primary key,
    project_id     blob    not null references projects (id) on delete cascade,
    kind           text    not null,
    name           text    not null,
    scheme         text    not null,
    lookup         text    not null,
    hash           blob    not null,
    sealed         blob,
    -- Networks in CIDR form, separated by spaces.
    networks       text,
    created_at     integer not null,
    expires_at     integer,
    last_used_at   integer,
    last_used_from text,
    revoked_at     integer,
    replaced_by    blob,
    import_id      text,
    constraint kind_is_known check (kind in ('read-write', 'read-only', 'ping', 'metrics')),
    constraint scheme_is_known check (scheme in ('hmac-sha256')),
    constraint only_ping_keys_can_be_shown check (sealed is null or kind = 'ping'),
    constraint pings_come_from_anywhere check (networks is null or kind <> 'ping')
) strict, without rowid;

insert into api_keys_new
    (id, project_id, kind, name, scheme, lookup, hash, sealed, created_at, expires_at, last_used_at, revoked_at, import_id)
select id, project_id, kind, name, scheme, lookup, hash, sealed, created_at, expires_at, last_used_at, revoked_at, import_id
from api_keys;

drop table api_keys;
alter table api_keys_new rename to api_keys;
create index api_keys_by_lookup on api_keys (lookup);
create index api_keys_by_project on api_keys (project_id);
