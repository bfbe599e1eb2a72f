-- When a claim code was made, by the time that credentials are judged by: one that was made while the clock was ahead ends
-- as if it was made when the clock was set back. None of a code of before, and of a device without one.
alter table devices add column claim_made_at bigint;
