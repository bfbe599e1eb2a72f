-- What has ended is removed after a while, found by when it ended and not by reading everything.
create index refresh_families_end on refresh_families (expires_at);
create index refresh_families_revoked on refresh_families (revoked_at) where revoked_at is not null;
create index access_tokens_revoked on access_tokens (revoked_at) where revoked_at is not null;
create index access_tokens_end on access_tokens (expires_at) where expires_at is not null;
create index grants_ended on grants (ended_at) where ended_at is not null;
