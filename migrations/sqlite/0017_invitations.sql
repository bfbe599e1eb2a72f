-- Who may make an account where not everybody may: links that are good once. Only SHA-256 of a token is ever stored.
create table invitations (
    id integer primary key,
    uid text not null unique,
    hash blob not null unique,
    maker_id integer not null references users (id) on delete cascade,
    email text,
    note text,
    created_at integer not null,
    expires_at integer not null,
    ended_at integer,
    ended_why text check (ended_why in ('used', 'revoked', 'expired')),
    user_id integer references users (id) on delete set null
);
create index invitations_open on invitations (expires_at) where ended_at is null;
create index invitations_ended on invitations (ended_at) where ended_at is not null;
