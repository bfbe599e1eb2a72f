-- Rows of the audit are keyed by chain and place here already; SQLite's are from now on.
-- The newest checkpoint of a chain says where it begins. Older ones may go: the server removes those that no row names any
-- more, and one that is named and gone is found by `hexa audit verify`.
drop trigger audit_checkpoints_no_change on audit_checkpoints;
create trigger audit_checkpoints_no_change before update or truncate on audit_checkpoints
for each statement execute function audit_checkpoints_append_only();

create function audit_checkpoint_leaves() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from audit_checkpoints c where c.chain = old.chain and c.up_to_seq > old.up_to_seq) then
        raise exception 'the audit''s checkpoints are append-only';
    end if;
    return old;
end
$$;

create trigger audit_checkpoints_no_delete before delete on audit_checkpoints
for each row execute function audit_checkpoint_leaves();
