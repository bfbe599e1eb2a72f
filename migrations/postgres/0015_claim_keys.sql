-- Claim codes are kept as an HMAC under a key that is not in the database; this is the key's name. None beside a hash means
-- that the hash is the plain SHA-256 of an earlier version, which the server brings up to date when it starts.
alter table devices add column claim_key text;
