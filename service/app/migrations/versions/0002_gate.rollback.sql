DROP TABLE events;
DROP TABLE applications;
DROP TABLE decisions;
DROP TABLE key_revocations;
DROP TABLE vote_revocations;
DROP TABLE votes;
DROP TABLE ballots;
DROP TABLE simulations;
ALTER TABLE targets DROP CONSTRAINT targets_current_exists;
DROP TABLE snapshots;
DROP TABLE proposals;
DROP TABLE targets;
DROP TABLE transitions;
DROP FUNCTION refuse_unknown_transition();
DROP FUNCTION refuse_version_jump();
DROP FUNCTION refuse_rewrite();
DROP DOMAIN digest;
DROP DOMAIN tier;
DROP FUNCTION sha256_text(bytea);
ALTER TABLE proposals_0001 RENAME TO proposals;
ALTER INDEX proposals_0001_pkey RENAME TO proposals_pkey;
ALTER TABLE events_0001 RENAME TO events;
ALTER INDEX events_0001_pkey RENAME TO events_pkey;
ALTER INDEX events_0001_by_proposal RENAME TO events_by_proposal;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        GRANT INSERT ON proposals, events TO firewall_app;
    END IF;
END
$$;
