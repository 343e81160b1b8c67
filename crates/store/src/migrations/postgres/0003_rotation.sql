-- The replacing of keys: which is under way, how far it is, and what each node knows of it.

create table rotations (
    n                 bigint not null primary key,
    root_key          text collate "C" not null,
    label             text collate "C" not null,
    replaced          text not null,
    phase             text not null,
    step              bigint not null,
    started_at        bigint not null,
    keyed_at          bigint,
    finished_at       bigint,
    at_column         text,
    at_id             uuid,
    at_second         uuid,
    at_n              bigint,
    pass              bigint not null,
    keys_wrapped      bigint not null,
    keys_made         bigint not null,
    values_seen       bigint not null,
    values_sealed     bigint not null,
    values_unreadable bigint not null,
    constraint phase_is_known check
        (phase in ('announced', 'wrapping', 'keying', 'settling', 'sealing', 'resting', 'sweeping', 'done')),
    constraint a_cursor_is_in_a_column check (at_column is not null or at_id is null)
);
comment on column rotations.label is 'name and fingerprint of the new root key';
comment on column rotations.replaced is 'names of the root keys that were in use before, separated by spaces';

create table node_keys (
    node_id  uuid not null primary key,
    labels   text not null,
    keyed_at bigint not null,
    noted_at bigint not null
);
comment on column node_keys.labels is 'root keys that the node has: names and fingerprints, separated by spaces';
comment on column node_keys.keyed_at is 'of the newest rotation whose data keys the node knows of';

-- The rotation that a data key was made under; 0 is before the first.
alter table data_keys add column rotation bigint not null default 0;
