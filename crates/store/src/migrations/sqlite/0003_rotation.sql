-- The replacing of keys: which is under way, how far it is, and what each node knows of it.

create table rotations (
    n                 integer not null primary key,
    root_key          text not null,
    label             text not null,
    replaced          text not null,
    phase             text not null,
    step              integer not null,
    started_at        integer not null,
    keyed_at          integer,
    finished_at       integer,
    at_column         text,
    at_id             blob,
    at_second         blob,
    at_n              integer,
    pass              integer not null,
    keys_wrapped      integer not null,
    keys_made         integer not null,
    values_seen       integer not null,
    values_sealed     integer not null,
    values_unreadable integer not null,
    constraint phase_is_known check
        (phase in ('announced', 'wrapping', 'keying', 'settling', 'sealing', 'resting', 'sweeping', 'done')),
    constraint a_cursor_is_in_a_column check (at_column is not null or at_id is null)
) strict, without rowid;

create table node_keys (
    node_id  blob not null primary key,
    labels   text not null,
    keyed_at integer not null,
    noted_at integer not null
) strict, without rowid;

-- The rotation that a data key was made under; 0 is before the first.
alter table data_keys add column rotation integer not null default 0;
