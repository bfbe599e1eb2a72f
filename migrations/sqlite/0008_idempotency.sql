-- Requests with an idempotency key: what they were, and how they ended. Answers are sealed, because some carry
-- credentials; a relay command's answer is in the audit, found by its id.
create table idempotency (
    id integer primary key,
    scope blob not null,
    key text not null,
    fingerprint blob not null,
    request_id text not null,
    command_id blob,
    answer blob,
    created_at integer not null,
    expires_at integer not null,
    unique (scope, key)
);
create index idempotency_end on idempotency (expires_at);
