-- Beside each name the form in which it is searched and ordered, made by the server (hexa_model::names::fold), so that
-- both databases find and sort alike. Rows that are here already are filled at the next start.
alter table devices add column name_folded text;
alter table relay_names add column name_folded text;
alter table users add column email_folded text;
alter table users add column name_folded text;
drop index devices_name;
drop index devices_owner_name;
create index devices_name on devices (name_folded, id);
create index devices_owner_name on devices (owner_id, name_folded, id);
