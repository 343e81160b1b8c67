-- What users ask for beyond the protocol: pings that were only counted, the last success, timed pauses, runs that say
-- that they are alive, and projects whose pings by id need their key.

-- A kind of ping more. Not looked at in the rows there are, which met a narrower one.
alter table pings drop constraint kind_is_known;
alter table pings add constraint kind_is_known check (kind between 0 and 5) not valid;

alter table checks add column pings_not_kept bigint not null default 0
    constraint pings_not_kept_are_pings check (pings_not_kept between 0 and ping_count);
alter table checks add column last_success_at bigint;
-- The end of a pause; behind it, for a check that is new, the instant from which it is expected again.
alter table checks add column paused_until bigint;
alter table checks add column last_alive_at bigint
    constraint only_runs_are_alive check (last_alive_at is null or last_start_at is not null);
alter table projects add column require_ping_key boolean not null default false;
