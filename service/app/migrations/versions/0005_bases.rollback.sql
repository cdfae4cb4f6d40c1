ALTER TABLE snapshots DROP CONSTRAINT snapshots_stand_on_their_base;
ALTER TABLE proposals DROP CONSTRAINT proposals_base;
