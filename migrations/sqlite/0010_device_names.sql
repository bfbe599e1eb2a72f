-- Lists in the order of names: of everybody's devices, and of one owner's. The expression is the one that the store
-- sorts by (dialect.rs), letter for letter, or the index is not used.
create index devices_name on devices (lower(coalesce(name, uid)), id);
create index devices_owner_name on devices (owner_id, lower(coalesce(name, uid)), id);
