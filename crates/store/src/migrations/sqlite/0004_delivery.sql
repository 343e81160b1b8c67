-- What the delivery engine needs: the order of a lane, what an attempt found, and how a channel fares.

-- The number of the flip it tells of: the order within its lane (check and channel). 0 for what is about no flip.
alter table deliveries add column seq integer not null default 0;
-- Somebody asked to send it again.
alter table deliveries add column redelivery integer not null default 0;
-- Of a note of our own: its code and data.
alter table deliveries add column note text;

update deliveries set seq = coalesce(
    (select max(f.flip_seq) from delivery_flips f
     where f.check_id = deliveries.shard and f.delivery_id = deliveries.id), 0);

-- Whose turn it is: by project, by channel within it, and what still stands before it in its lane.
-- `next_at >= 0` holds for all. It keeps the index by project from statements that do not say so: those that ask for a
-- channel too were answered from it by a planner that knew nothing of the table yet, through all of the project.
create index deliveries_ready_by_project on deliveries (class, project_id, next_at)
    where state = 'ready' and next_at >= 0;
create index deliveries_ready_by_channel on deliveries (class, project_id, channel_id, next_at) where state = 'ready';
create index deliveries_lane on deliveries (shard, channel_id, seq) where finished_at is null;
-- Ids begin with their instant, so this is also the order of time.
create index deliveries_of_project on deliveries (project_id, id);
create index delivery_flips_by_delivery on delivery_flips (check_id, delivery_id);

alter table attempts add column http_status integer;
-- Microseconds of each part, as JSON.
alter table attempts add column phases text;

-- Since when every delivery to it failed, how many flips it was never told meanwhile, how often that was said.
alter table channels add column failing_since integer;
alter table channels add column given_up integer not null default 0;
alter table channels add column warnings integer not null default 0;
alter table channels add column last_error text;
-- When it was said that our own rules refuse its target; null again when something arrives.
alter table channels add column blocked_said_at integer;
-- Why it was switched off: gone, failing.
alter table channels add column disabled_reason text;
