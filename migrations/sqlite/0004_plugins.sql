-- Calls that cost a plugin its instance. The newest are kept; the sample is short and masked before it gets here.
create table plugin_faults (
    id integer primary key,
    plugin text not null,
    version text not null,
    function text not null,
    kind text not null,
    limit_name text,
    allowed integer,
    actual integer,
    message text not null,
    device_uid text,
    sample text not null,
    at integer not null
);
create index plugin_faults_of on plugin_faults (plugin, id);
