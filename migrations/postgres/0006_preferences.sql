-- What a user's pages and apps want to find again: JSON objects, whole, by name.
create table user_preferences (
    user_id bigint not null references users (id) on delete cascade,
    name text not null,
    document text not null,
    updated_at bigint not null,
    primary key (user_id, name)
);
