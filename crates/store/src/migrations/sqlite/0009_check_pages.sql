-- Pages of checks by tag, name or status, each in the order of making, from an index: also of a million checks.

-- Anew, since a column can be added with a default only: a tag without its time would stand in front of all others.
create table check_tags_in_order (
    check_id   blob    not null references checks (id) on delete cascade,
    tag        text    not null,
    project_id blob    not null,
    created_at integer not null,
    primary key (check_id, tag)
) strict, without rowid;
insert into check_tags_in_order
    select t.check_id, t.tag, t.project_id, c.created_at from check_tags t join checks c on c.id = t.check_id;
drop table check_tags;
alter table check_tags_in_order rename to check_tags;
create index check_tags_by_tag on check_tags (project_id, tag, created_at, check_id);

create index checks_by_name on checks (project_id, name, created_at, id);
-- Not those that are up: each of their pings names the column, and would rewrite its entry.
create index checks_not_up on checks (project_id, status, created_at, id) where status <> 1;
