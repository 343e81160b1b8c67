-- Pages of checks by tag, name or status, each in the order of making, from an index: also of a million checks.

alter table check_tags add column created_at integer not null default 0;
update check_tags set created_at = (select c.created_at from checks c where c.id = check_tags.check_id);
drop index check_tags_by_tag;
create index check_tags_by_tag on check_tags (project_id, tag, created_at, check_id);

create index checks_by_name on checks (project_id, name, created_at, id);
-- Not those that are up: each of their pings names the column, and would rewrite its entry.
create index checks_not_up on checks (project_id, status, created_at, id) where status <> 1;
