-- Keys bound to networks, keys that were regenerated, where keys were last used from, and keys for scrapers.

alter table api_keys
    add column networks       text,
    add column last_used_from text,
    add column replaced_by    uuid,
    drop constraint kind_is_known,
    add constraint kind_is_known check (kind in ('read-write', 'read-only', 'ping', 'metrics')),
    add constraint pings_come_from_anywhere check (networks is null or kind <> 'ping');

comment on column api_keys.networks is 'networks in CIDR form, separated by spaces';
