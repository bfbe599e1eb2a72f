-- Raised with every change of who may do what with a device: claim, release, grants, another token. Whoever keeps a
-- device's access in memory compares it, so that a change that is heard of late undoes no later one.
alter table devices add column access_version integer not null default 0;

-- Which processes write to this database, by name, and how often each of them has begun to. On PostgreSQL every
-- transaction looks whether its process is still the last one that began.
create table nodes (
    node text primary key,
    generation integer not null
);
