-- A version stands on the base that its own proposal was made, simulated and voted on for: compare-and-swap, once more.

ALTER TABLE proposals ADD CONSTRAINT proposals_base UNIQUE (id, target, base_version, base_digest);
-- The first version of a target has no proposal and is not asked.
ALTER TABLE snapshots ADD CONSTRAINT snapshots_stand_on_their_base
    FOREIGN KEY (proposal_id, target, parent_version, parent_digest)
    REFERENCES proposals (id, target, base_version, base_digest);
