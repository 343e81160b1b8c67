-- Named secrets of a project, for the templates of its webhooks, and channels that can be deleted.

create table project_secrets (
    project_id   blob    not null references projects (id) on delete cascade,
    name         text    not null,
    sealed_value blob    not null,
    created_at   integer not null,
    updated_at   integer not null,
    primary key (project_id, name)
) strict, without rowid;

create index channels_by_deletion on channels (deleted_at) where deleted_at is not null;
