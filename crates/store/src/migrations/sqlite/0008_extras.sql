-- What users ask for beyond the protocol: pings that were only counted, the last success, timed pauses, runs that say
-- that they are alive, and projects whose pings by id need their key.

-- A kind of ping more. The log may be as large as the disk: its constraint is changed where it is written down, and the rows
-- stay as they are (sqlite.org/lang_altertable.html, section 7).
pragma writable_schema = on;
update sqlite_schema set sql = replace(sql, 'check (kind between 0 and 4)', 'check (kind between 0 and 5)')
    where type = 'table' and name = 'pings';
pragma writable_schema = reset;

alter table checks add column pings_not_kept integer not null default 0
    constraint pings_not_kept_are_pings check (pings_not_kept between 0 and ping_count);
alter table checks add column last_success_at integer;
-- The end of a pause; behind it, for a check that is new, the instant from which it is expected again.
alter table checks add column paused_until integer;
alter table checks add column last_alive_at integer
    constraint only_runs_are_alive check (last_alive_at is null or last_start_at is not null);
alter table projects add column require_ping_key integer not null default 0
    constraint require_ping_key_is_boolean check (require_ping_key in (0, 1));
