-- Rules that people set on a check, and what it must remember for them. Both null where there are none, which costs a ping
-- nothing.

alter table checks add column rules text collate "C";
alter table checks add column rules_state text collate "C"
    constraint nothing_is_remembered_without_rules check (rules_state is null or rules is not null);
comment on column checks.rules is 'compact JSON with a version; null: none';
comment on column checks.rules_state is 'compact JSON with a version, bounded: recent outcomes and lengths of runs';
