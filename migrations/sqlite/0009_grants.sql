-- What an owner shares: a device, or some of its relays (a bit each), for a while or a number of uses.
create table grants (
    id integer primary key,
    uid text not null unique,
    device_id integer not null references devices (id) on delete cascade,
    user_id integer not null references users (id) on delete cascade,
    access text not null check (access in ('read', 'control')),
    relays integer,
    starts_at integer,
    expires_at integer,
    max_uses integer,
    uses_left integer,
    created_at integer not null,
    ended_at integer,
    ended_why text
);
create index grants_device on grants (device_id) where ended_at is null;
create index grants_user on grants (user_id) where ended_at is null;
