-- The audit: an append-only, hash-chained tail without an index by device, and the indexed table it is moved to.
-- Rows outlive the devices and users they speak of, so nothing here references those tables.
create table audit_tail (
    seq bigint not null,
    chain text not null,
    at bigint not null,
    actor_kind text not null,
    actor_id bigint,
    source text not null,
    action text not null,
    device_id bigint,
    command_id bytea,
    follow_up boolean not null,
    outcome text not null,
    relay bigint,
    state boolean,
    latency_ms bigint,
    changes text,
    details text,
    prev bytea not null,
    hash bytea not null,
    primary key (chain, seq)
);
create unique index audit_tail_command on audit_tail (command_id, follow_up) where command_id is not null;

create table audit (
    seq bigint not null,
    chain text not null,
    at bigint not null,
    actor_kind text not null,
    actor_id bigint,
    source text not null,
    action text not null,
    device_id bigint,
    command_id bytea,
    follow_up boolean not null,
    outcome text not null,
    relay bigint,
    state boolean,
    latency_ms bigint,
    changes text,
    details text,
    prev bytea not null,
    hash bytea not null,
    primary key (chain, seq)
);
create unique index audit_command on audit (command_id, follow_up) where command_id is not null;
create index audit_device on audit (device_id, at);
create index audit_actor on audit (actor_id, at);

create function audit_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is append-only';
end
$$;

create trigger audit_no_change before update or delete or truncate on audit
for each statement execute function audit_append_only();

create trigger audit_tail_no_update before update or truncate on audit_tail
for each statement execute function audit_append_only();

-- A row may leave the tail only once it stands in the table.
create function audit_tail_leaves() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from audit where chain = old.chain and seq = old.seq and hash = old.hash) then
        raise exception 'the audit is append-only';
    end if;
    return old;
end
$$;

create trigger audit_tail_move_only before delete on audit_tail
for each row execute function audit_tail_leaves();
