-- Devices, what they can do, and the last known states of their relays.
create table devices (
    id integer primary key,
    uid text not null unique,
    owner_id integer references users (id),
    name text,
    device_class text not null,
    model text,
    hardware text,
    firmware_version text,
    serial text unique,
    relay_count integer not null default 0,
    input_count integer not null default 0,
    token_hash blob not null,
    previous_token_hash blob,
    previous_token_until integer,
    claim_hash blob unique,
    claim_expires_at integer,
    active integer not null default 1,
    last_seen_at integer,
    last_ip text,
    connected_at integer,
    disconnected_at integer,
    driver_version text,
    driver_durable blob,
    created_at integer not null,
    updated_at integer not null,
    claimed_at integer
);
create index devices_owner on devices (owner_id, id);

create table device_capabilities (
    device_id integer not null references devices (id) on delete cascade,
    capability text not null,
    primary key (device_id, capability)
) without rowid;

create table relay_names (
    device_id integer not null references devices (id) on delete cascade,
    relay integer not null,
    name text not null,
    primary key (device_id, relay)
) without rowid;

create table relay_states (
    device_id integer not null references devices (id) on delete cascade,
    relay integer not null,
    state integer not null,
    version integer not null,
    updated_at integer not null,
    primary key (device_id, relay)
) without rowid;
