-- Old rows of the audit may go, but only under a checkpoint: it says up to where, and with which hash the chain goes on.
-- Checkpoints are chained themselves, and each is named by a row of the audit that was written with it.
create table audit_checkpoints (
    chain text not null,
    up_to_seq integer not null,
    up_to_hash blob not null,
    row_count integer not null,
    at integer not null,
    prev blob not null,
    hash blob not null,
    primary key (chain, up_to_seq)
);

create trigger audit_checkpoints_no_update before update on audit_checkpoints
begin
    select raise(abort, 'the audit''s checkpoints are append-only');
end;

create trigger audit_checkpoints_no_delete before delete on audit_checkpoints
begin
    select raise(abort, 'the audit''s checkpoints are append-only');
end;

-- It is newer than every other one, and stands on a row that is there.
create trigger audit_checkpoints_on_a_row before insert on audit_checkpoints
when exists (select 1 from audit_checkpoints c where c.chain = new.chain and c.up_to_seq >= new.up_to_seq)
    or not exists (select 1 from audit a where a.seq = new.up_to_seq and a.chain = new.chain and a.hash = new.up_to_hash)
begin
    select raise(abort, 'a checkpoint stands on a row of the audit');
end;

drop trigger audit_no_delete;
create trigger audit_no_delete before delete on audit
when not exists (select 1 from audit_checkpoints c where c.chain = old.chain and c.up_to_seq >= old.seq)
begin
    select raise(abort, 'the audit is append-only');
end;

-- For the admins' list, newest first. The commonest outcome and source are left out: their rows are found at once by
-- going down by time, and an index of nearly all rows would be paid for by every command.
create index audit_at on audit (at);
create index audit_action on audit (action, at);
create index audit_outcome on audit (outcome, at) where outcome <> 'executed';
create index audit_source on audit (source, at) where source <> 'api';
