-- Accounts, their sessions, and single settings.
create table users (
    id integer primary key,
    uid text not null unique,
    email text not null unique,
    name text,
    role text not null check (role in ('user', 'admin')),
    active integer not null default 1,
    epoch integer not null default 0,
    password_hash text not null,
    created_at integer not null,
    updated_at integer not null
);

create table refresh_families (
    id integer primary key,
    uid text not null unique,
    user_id integer not null references users (id) on delete cascade,
    created_at integer not null,
    expires_at integer not null,
    revoked_at integer,
    user_agent text,
    ip text
);
create index refresh_families_user on refresh_families (user_id);

-- Only SHA-256 of a token is ever stored.
create table refresh_tokens (
    id integer primary key,
    family_id integer not null references refresh_families (id) on delete cascade,
    hash blob not null unique,
    issued_at integer not null,
    expires_at integer not null,
    spent_at integer,
    successor_id integer
);
create index refresh_tokens_family on refresh_tokens (family_id);

create table settings (
    name text primary key,
    value text not null
);
