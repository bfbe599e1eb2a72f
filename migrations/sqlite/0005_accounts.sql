-- Personal access tokens; only SHA-256 of a token is ever stored.
create table access_tokens (
    id integer primary key,
    uid text not null unique,
    user_id integer not null references users (id) on delete cascade,
    name text not null,
    hash blob not null unique,
    scopes text not null,
    created_at integer not null,
    expires_at integer,
    last_used_at integer,
    revoked_at integer
);
create index access_tokens_user on access_tokens (user_id);

-- Wrong passwords in a row, and when the last one came.
alter table users add column failed_logins integer not null default 0;
alter table users add column failed_at integer;

