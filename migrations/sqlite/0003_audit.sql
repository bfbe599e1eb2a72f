-- The audit: an append-only, hash-chained tail without an index by device, and the indexed table it is moved to.
-- Rows outlive the devices and users they speak of, so nothing here references those tables.
create table audit_tail (
    seq integer primary key,
    chain text not null,
    at integer not null,
    actor_kind text not null,
    actor_id integer,
    source text not null,
    action text not null,
    device_id integer,
    command_id blob,
    follow_up integer not null,
    outcome text not null,
    relay integer,
    state integer,
    latency_ms integer,
    changes text,
    details text,
    prev blob not null,
    hash blob not null
);
create unique index audit_tail_command on audit_tail (command_id, follow_up) where command_id is not null;

create table audit (
    seq integer primary key,
    chain text not null,
    at integer not null,
    actor_kind text not null,
    actor_id integer,
    source text not null,
    action text not null,
    device_id integer,
    command_id blob,
    follow_up integer not null,
    outcome text not null,
    relay integer,
    state integer,
    latency_ms integer,
    changes text,
    details text,
    prev blob not null,
    hash blob not null
);
create unique index audit_command on audit (command_id, follow_up) where command_id is not null;
create index audit_device on audit (device_id, at);
create index audit_actor on audit (actor_id, at);

create trigger audit_no_update before update on audit
begin
    select raise(abort, 'the audit is append-only');
end;

create trigger audit_no_delete before delete on audit
begin
    select raise(abort, 'the audit is append-only');
end;

create trigger audit_tail_no_update before update on audit_tail
begin
    select raise(abort, 'the audit is append-only');
end;

-- A row may leave the tail only once it stands in the table.
create trigger audit_tail_move_only before delete on audit_tail
when not exists (select 1 from audit where audit.seq = old.seq and audit.hash = old.hash)
begin
    select raise(abort, 'the audit is append-only');
end;
