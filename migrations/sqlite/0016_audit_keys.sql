-- Rows of the audit are keyed by chain and place, as on PostgreSQL: a database may hold the chains of more than one node,
-- each with its own numbers. Both tables are made anew, with every row as it is; the indexes end with chain and place by
-- themselves, because these tables are stored in the order of their keys.
-- Triggers that name a table go before it does, and all come back. Until this transaction ends nobody else can write.
drop trigger audit_tail_move_only;
drop trigger audit_checkpoints_on_a_row;
drop trigger audit_checkpoints_no_delete;

create table audit_by_chain (
    seq integer not null,
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
    hash blob not null,
    primary key (chain, seq)
) without rowid;
insert into audit_by_chain select * from audit;
drop table audit;
alter table audit_by_chain rename to audit;
create unique index audit_command on audit (command_id, follow_up) where command_id is not null;
create index audit_at on audit (at);
create index audit_device on audit (device_id, at);
create index audit_actor on audit (actor_id, at);
create index audit_action on audit (action, at);
create index audit_outcome on audit (outcome, at) where outcome <> 'executed';
create index audit_source on audit (source, at) where source <> 'api';

create table audit_tail_by_chain (
    seq integer not null,
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
    hash blob not null,
    primary key (chain, seq)
) without rowid;
insert into audit_tail_by_chain select * from audit_tail;
drop table audit_tail;
alter table audit_tail_by_chain rename to audit_tail;
create unique index audit_tail_command on audit_tail (command_id, follow_up) where command_id is not null;

create trigger audit_no_update before update on audit
begin
    select raise(abort, 'the audit is append-only');
end;

create trigger audit_no_delete before delete on audit
when not exists (select 1 from audit_checkpoints c where c.chain = old.chain and c.up_to_seq >= old.seq)
begin
    select raise(abort, 'the audit is append-only');
end;

create trigger audit_tail_no_update before update on audit_tail
begin
    select raise(abort, 'the audit is append-only');
end;

-- A row may leave the tail only once it stands in the table.
create trigger audit_tail_move_only before delete on audit_tail
when not exists (select 1 from audit a where a.chain = old.chain and a.seq = old.seq and a.hash = old.hash)
begin
    select raise(abort, 'the audit is append-only');
end;

-- A checkpoint is newer than every other one of its chain, and stands on a row of it that is there.
create trigger audit_checkpoints_on_a_row before insert on audit_checkpoints
when exists (select 1 from audit_checkpoints c where c.chain = new.chain and c.up_to_seq >= new.up_to_seq)
    or not exists (select 1 from audit a where a.chain = new.chain and a.seq = new.up_to_seq and a.hash = new.up_to_hash)
begin
    select raise(abort, 'a checkpoint stands on a row of the audit');
end;

-- The newest checkpoint of a chain says where it begins. Older ones may go: the server removes those that no row names any
-- more, and one that is named and gone is found by `hexa audit verify`.
create trigger audit_checkpoints_no_delete before delete on audit_checkpoints
when not exists (select 1 from audit_checkpoints c where c.chain = old.chain and c.up_to_seq > old.up_to_seq)
begin
    select raise(abort, 'the audit''s checkpoints are append-only');
end;
