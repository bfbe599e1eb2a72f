-- The highest key that a device ever had: a key is not given again after its device was deleted, because writes and audit
-- rows that speak of it may come later, or stay. PostgreSQL's sequence does so by itself.
insert into settings (name, value)
select 'devices.highest_key', cast(max(
    coalesce((select max(id) from devices), 0),
    coalesce((select max(device_id) from audit), 0),
    coalesce((select max(device_id) from audit_tail), 0)
) as text);

create trigger devices_key_is_spent before delete on devices
begin
    update settings set value = cast(max(cast(value as integer), old.id) as text) where name = 'devices.highest_key';
end;
