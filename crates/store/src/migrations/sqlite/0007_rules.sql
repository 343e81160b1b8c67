-- Rules that people set on a check, and what it must remember for them. Both null where there are none, which costs a ping
-- nothing.

alter table checks add column rules text;
alter table checks add column rules_state text
    constraint nothing_is_remembered_without_rules check (rules_state is null or rules is not null);
