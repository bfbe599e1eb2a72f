-- A key is not given again after its device was deleted, because writes and audit rows that speak of it may come later,
-- or stay. The sequence of the column does so by itself; SQLite needs a setting and a trigger for it.
comment on column devices.id is 'given once, also after the device was deleted';
