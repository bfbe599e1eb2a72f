-- The highest key that a device ever had: a key is not given again after its device was deleted, because writes and audit
-- rows that speak of it may come later, or stay.
create table device_keys (
    one integer primary key check (one = 1),
    highest integer not null
);
insert into device_keys (one, highest)
select 1, max(
    coalesce((select max(id) from devices), 0),
    coalesce((select max(device_id) from audit), 0),
    coalesce((select max(device_id) from audit_tail), 0)
);

create trigger devices_key_is_spent before delete on devices
begin
    update device_keys set highest = max(highest, old.id);
end;
