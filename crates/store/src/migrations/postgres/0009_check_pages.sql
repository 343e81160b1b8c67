-- Pages of checks by tag, name or status, each in the order of making, from an index: also of a million checks.

-- No default: a server of an earlier version, which does not know the column, is refused its tags aloud. It would put
-- them in front of all others.
alter table check_tags add column created_at bigint;
update check_tags t set created_at = c.created_at from checks c where c.id = t.check_id;
alter table check_tags alter column created_at set not null;
drop index check_tags_by_tag;
create index check_tags_by_tag on check_tags (project_id, tag, created_at, check_id);

create index checks_by_name on checks (project_id, name, created_at, id);
-- Those that are up are most, and are found by walking them.
create index checks_not_up on checks (project_id, status, created_at, id) where status <> 1;
