-- Named secrets of a project, for the templates of its webhooks, and channels that can be deleted.

create table project_secrets (
    project_id   uuid not null references projects (id) on delete cascade,
    name         text collate "C" not null,
    sealed_value bytea not null,
    created_at   bigint not null,
    updated_at   bigint not null,
    primary key (project_id, name)
);

create index channels_by_deletion on channels (deleted_at) where deleted_at is not null;
