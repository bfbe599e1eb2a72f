-- Old rows of the audit may go, but only under a checkpoint: it says up to where, and with which hash the chain goes on.
-- Checkpoints are chained themselves, and each is named by a row of the audit that was written with it.
create table audit_checkpoints (
    chain text not null,
    up_to_seq bigint not null,
    up_to_hash bytea not null,
    row_count bigint not null,
    at bigint not null,
    prev bytea not null,
    hash bytea not null,
    primary key (chain, up_to_seq)
);

create function audit_checkpoints_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit''s checkpoints are append-only';
end
$$;

create trigger audit_checkpoints_no_change before update or delete or truncate on audit_checkpoints
for each statement execute function audit_checkpoints_append_only();

-- It is newer than every other one, and stands on a row that is there.
create function audit_checkpoint_on_a_row() returns trigger language plpgsql as $$
begin
    if exists (select 1 from audit_checkpoints c where c.chain = new.chain and c.up_to_seq >= new.up_to_seq)
        or not exists
            (select 1 from audit a where a.chain = new.chain and a.seq = new.up_to_seq and a.hash = new.up_to_hash)
    then
        raise exception 'a checkpoint stands on a row of the audit';
    end if;
    return new;
end
$$;

create trigger audit_checkpoints_on_a_row before insert on audit_checkpoints
for each row execute function audit_checkpoint_on_a_row();

drop trigger audit_no_change on audit;
create trigger audit_no_update before update or truncate on audit
for each statement execute function audit_append_only();

create function audit_leaves() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from audit_checkpoints c where c.chain = old.chain and c.up_to_seq >= old.seq) then
        raise exception 'the audit is append-only';
    end if;
    return old;
end
$$;

create trigger audit_no_delete before delete on audit
for each row execute function audit_leaves();

-- For the admins' list, newest first. The commonest outcome and source are left out: their rows are found at once by
-- going down by time, and an index of nearly all rows would be paid for by every command.
drop index audit_device;
drop index audit_actor;
create index audit_at on audit (at, seq);
create index audit_device on audit (device_id, at, seq);
create index audit_actor on audit (actor_id, at, seq);
create index audit_action on audit (action, at, seq);
create index audit_outcome on audit (outcome, at, seq) where outcome <> 'executed';
create index audit_source on audit (source, at, seq) where source <> 'api';
