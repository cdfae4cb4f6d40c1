-- The gate: targets and their snapshots, the life of a proposal, votes, decisions, deliveries, and one event for each
-- step of it. What the code promises is refused here as well: steps that are not in the table of transitions, a second
-- version of one number, a second active vote of one person, a second application to one target at a time.

-- Proposals of 0001 name targets that never existed and have no base digest; their events have no leaf. They can take
-- no step, so they are kept aside as they are, and the log begins without them.
ALTER TABLE proposals RENAME TO proposals_0001;
ALTER INDEX proposals_pkey RENAME TO proposals_0001_pkey;
ALTER TABLE events RENAME TO events_0001;
ALTER INDEX events_pkey RENAME TO events_0001_pkey;
ALTER INDEX events_by_proposal RENAME TO events_0001_by_proposal;

CREATE FUNCTION sha256_text(content bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN 'sha256:' || encode(sha256(content), 'hex');

CREATE DOMAIN digest AS text CHECK (VALUE ~ '^sha256:[0-9a-f]{64}$');
CREATE DOMAIN tier AS text CHECK (VALUE IN ('low', 'medium', 'high', 'critical', 'governance'));

-- Targets and snapshots --------------------------------------------------------------------------------------------

CREATE TABLE targets (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$'
                                 AND length(name) <= 128),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'frozen', 'degraded')),
    frozen_reason text CHECK ((frozen_reason IS NOT NULL) = (state = 'frozen')),
    config bytea NOT NULL,
    config_digest digest NOT NULL CHECK (config_digest = sha256_text(config)),
    version bigint NOT NULL CHECK (version >= 1),
    digest digest NOT NULL,
    observed_version bigint,
    observed_digest digest,
    observed_at timestamptz,
    last_leaf digest,
    created_at timestamptz NOT NULL
);

CREATE TABLE snapshots (
    target text NOT NULL REFERENCES targets (name) DEFERRABLE INITIALLY DEFERRED,
    version bigint NOT NULL CHECK (version >= 1),
    parent_version bigint CHECK (parent_version IS NOT DISTINCT FROM nullif(version - 1, 0)),
    digest digest NOT NULL CHECK (digest = sha256_text(content)),
    parent_digest digest CHECK ((parent_digest IS NULL) = (version = 1)),
    proposal_id uuid UNIQUE CHECK ((proposal_id IS NULL) = (version = 1)),
    content bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (target, version),
    UNIQUE (target, parent_version)
);

ALTER TABLE targets ADD CONSTRAINT targets_current_exists
    FOREIGN KEY (name, version) REFERENCES snapshots (target, version) DEFERRABLE INITIALLY DEFERRED;

-- The lifecycle ----------------------------------------------------------------------------------------------------

-- app/core/governed/lifecycle.py holds the same; a test compares the two. A null state_from is the way in.
CREATE TABLE transitions (
    state_from text,
    state_to text NOT NULL,
    number smallint NOT NULL,
    event text NOT NULL,
    UNIQUE NULLS NOT DISTINCT (state_from, state_to)
);

INSERT INTO transitions (number, state_from, state_to, event) VALUES
    (1, NULL, 'pending', 'proposal-created'),
    (2, 'pending', 'simulating', 'simulation-started'),
    (3, 'simulating', 'pending', 'simulation-returned'),
    (4, 'simulating', 'failed', 'simulation-failed'),
    (5, 'simulating', 'denied', 'denied'),
    (6, 'simulating', 'simulated', 'simulated'),
    (7, 'simulated', 'approved', 'approved'),
    (8, 'simulated', 'rejected', 'rejected'),
    (9, 'approved', 'simulated', 'approval-lost'),
    (10, 'simulated', 'pending', 'reopened'),
    (10, 'approved', 'pending', 'reopened'),
    (11, 'pending', 'stale', 'stale'),
    (11, 'simulating', 'stale', 'stale'),
    (11, 'simulated', 'stale', 'stale'),
    (11, 'approved', 'stale', 'stale'),
    (12, 'pending', 'withdrawn', 'withdrawn'),
    (12, 'simulating', 'withdrawn', 'withdrawn'),
    (12, 'simulated', 'withdrawn', 'withdrawn'),
    (12, 'approved', 'withdrawn', 'withdrawn'),
    (13, 'pending', 'expired', 'expired'),
    (13, 'simulating', 'expired', 'expired'),
    (13, 'simulated', 'expired', 'expired'),
    (13, 'approved', 'expired', 'expired'),
    (14, 'approved', 'applying', 'applying'),
    (15, 'applying', 'applied', 'applied'),
    (16, 'applying', 'failed', 'apply-failed'),
    (17, 'applied', 'rolled_back', 'rolled-back');

CREATE TABLE proposals (
    id uuid PRIMARY KEY,
    principal text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('mutation', 'governance', 'rollback', 'break_glass')),
    target text NOT NULL REFERENCES targets (name),
    base_version bigint NOT NULL CHECK (base_version >= 1),
    base_digest digest NOT NULL,
    body bytea NOT NULL,
    body_digest text NOT NULL CHECK (body_digest = encode(sha256(body), 'hex')),
    content bytea NOT NULL,
    proposal_digest digest NOT NULL CHECK (proposal_digest = sha256_text(content)),
    created_at timestamptz NOT NULL,
    -- What follows changes.
    state text NOT NULL,
    revision bigint NOT NULL DEFAULT 1 CHECK (revision >= 1),
    epoch integer NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    tier tier,
    quorum_rule bytea,
    expires_at timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    lease_token bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    approved_at timestamptz,
    last_leaf digest
);

CREATE UNIQUE INDEX proposals_one_applying ON proposals (target) WHERE state = 'applying';
CREATE UNIQUE INDEX proposals_one_open ON proposals (target, proposal_digest)
    WHERE state IN ('pending', 'simulating', 'simulated', 'approved', 'applying');
CREATE INDEX proposals_open_by_target ON proposals (target, id)
    WHERE state IN ('pending', 'simulating', 'simulated', 'approved', 'applying');
CREATE INDEX proposals_open_by_state ON proposals (state, id)
    WHERE state IN ('pending', 'simulating', 'simulated', 'approved', 'applying');
CREATE INDEX proposals_open_by_expiry ON proposals (expires_at)
    WHERE state IN ('pending', 'simulating', 'simulated', 'approved');
CREATE INDEX proposals_by_target ON proposals (target, id);
CREATE INDEX proposals_by_principal ON proposals (principal, id);

ALTER TABLE snapshots ADD CONSTRAINT snapshots_proposal_exists FOREIGN KEY (proposal_id) REFERENCES proposals (id);

CREATE FUNCTION refuse_unknown_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    came_from text := CASE TG_OP WHEN 'UPDATE' THEN OLD.state END;
BEGIN
    IF NOT EXISTS (SELECT FROM transitions
                   WHERE state_from IS NOT DISTINCT FROM came_from AND state_to = NEW.state) THEN
        RAISE EXCEPTION 'no transition from % to %', coalesce(came_from, 'nothing'), NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'proposals_transition';
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.revision <> OLD.revision + 1 THEN
        RAISE EXCEPTION 'a transition is one revision'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'proposals_revision';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER proposals_begin_as_the_table_says BEFORE INSERT ON proposals
    FOR EACH ROW EXECUTE FUNCTION refuse_unknown_transition();
CREATE TRIGGER proposals_move_as_the_table_says BEFORE UPDATE ON proposals
    FOR EACH ROW WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION refuse_unknown_transition();

CREATE FUNCTION refuse_version_jump() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the version of % goes from % to % only', OLD.name, OLD.version, OLD.version + 1
        USING ERRCODE = 'check_violation', CONSTRAINT = 'targets_version_grows';
END
$$;

CREATE TRIGGER targets_grow_by_one BEFORE UPDATE ON targets FOR EACH ROW
    WHEN ((NEW.version <> OLD.version AND NEW.version <> OLD.version + 1)
          OR (NEW.version = OLD.version AND NEW.digest <> OLD.digest))
    EXECUTE FUNCTION refuse_version_jump();

-- Simulation, ballot, votes, decision --------------------------------------------------------------------------------

CREATE TABLE simulations (
    proposal_id uuid NOT NULL REFERENCES proposals (id),
    epoch integer NOT NULL,
    inputs bytea NOT NULL,
    record bytea NOT NULL,
    digest digest NOT NULL CHECK (digest = sha256_text(record)),
    verdict text NOT NULL CHECK (verdict IN ('allow', 'deny', 'inconclusive')),
    after bytea,
    result_digest digest CHECK (result_digest IS NOT DISTINCT FROM sha256_text(after)),
    replica text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (proposal_id, epoch)
);

CREATE TABLE ballots (
    proposal_id uuid NOT NULL REFERENCES proposals (id),
    epoch integer NOT NULL,
    statement bytea NOT NULL,
    nonce text NOT NULL,
    opened_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (proposal_id, epoch),
    FOREIGN KEY (proposal_id, epoch) REFERENCES simulations (proposal_id, epoch)
);

CREATE TABLE votes (
    id uuid PRIMARY KEY,
    proposal_id uuid NOT NULL,
    epoch integer NOT NULL,
    principal text NOT NULL,
    validator text NOT NULL,
    role text NOT NULL,
    keyid digest NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approve', 'reject', 'abstain')),
    recomputed boolean NOT NULL,
    envelope bytea NOT NULL,
    digest digest NOT NULL UNIQUE CHECK (digest = sha256_text(envelope)),
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    at timestamptz NOT NULL,
    -- What follows is set once.
    superseded_at timestamptz,
    revoked_at timestamptz,
    FOREIGN KEY (proposal_id, epoch) REFERENCES ballots (proposal_id, epoch)
);

CREATE UNIQUE INDEX votes_one_active_per_principal ON votes (proposal_id, epoch, principal)
    WHERE superseded_at IS NULL AND revoked_at IS NULL;
CREATE UNIQUE INDEX votes_one_active_per_key ON votes (proposal_id, epoch, keyid)
    WHERE superseded_at IS NULL AND revoked_at IS NULL;
CREATE INDEX votes_active_by_key ON votes (keyid) WHERE superseded_at IS NULL AND revoked_at IS NULL;

CREATE TABLE vote_revocations (
    vote_id uuid PRIMARY KEY REFERENCES votes (id),
    principal text NOT NULL,
    envelope bytea NOT NULL,
    digest digest NOT NULL UNIQUE CHECK (digest = sha256_text(envelope)),
    at timestamptz NOT NULL
);

CREATE TABLE key_revocations (
    keyid digest PRIMARY KEY,
    validator text NOT NULL,
    principal text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL
);

CREATE TABLE decisions (
    proposal_id uuid PRIMARY KEY REFERENCES proposals (id),
    target text NOT NULL,
    version bigint NOT NULL,
    envelope bytea NOT NULL,
    digest digest NOT NULL UNIQUE CHECK (digest = sha256_text(envelope)),
    tally bytea NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (target, version),
    FOREIGN KEY (target, version) REFERENCES snapshots (target, version)
);

-- The outbox: a row for each decision that has to reach its target's actuator.
CREATE TABLE applications (
    proposal_id uuid PRIMARY KEY REFERENCES decisions (proposal_id),
    target text NOT NULL,
    version bigint NOT NULL,
    digest digest NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'acknowledged', 'dead')),
    attempts smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    observed_digest digest,
    failure text,
    created_at timestamptz NOT NULL,
    settled_at timestamptz,
    UNIQUE (target, version),
    FOREIGN KEY (target, version) REFERENCES snapshots (target, version)
);

CREATE INDEX applications_due ON applications (next_attempt_at) WHERE state IN ('waiting', 'delivered');

-- Events -----------------------------------------------------------------------------------------------------------

CREATE TABLE events (
    id uuid PRIMARY KEY,
    ordinal bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind text NOT NULL,
    target text,
    proposal_id uuid REFERENCES proposals (id),
    principal text NOT NULL,
    request text,
    state_from text,
    state_to text,
    epoch integer NOT NULL,
    at timestamptz NOT NULL,
    leaf bytea NOT NULL CHECK (octet_length(leaf) <= 4096),
    leaf_digest digest GENERATED ALWAYS AS (sha256_text(leaf)) STORED NOT NULL,
    prev digest,
    body bytea,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- A chain has one successor for each of its events, and one beginning.
CREATE UNIQUE INDEX events_one_successor ON events (prev);
CREATE UNIQUE INDEX events_one_beginning_of_proposal ON events (proposal_id) WHERE prev IS NULL;
CREATE UNIQUE INDEX events_one_beginning_of_target ON events (target) WHERE prev IS NULL AND proposal_id IS NULL;
CREATE INDEX events_by_proposal ON events (proposal_id, ordinal);
CREATE INDEX events_by_target ON events (target, ordinal) WHERE proposal_id IS NULL;
CREATE INDEX events_by_transaction ON events (transaction_id, ordinal);

-- What is written once is written once by anybody: also the owner must drop these first -----------------------------

CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER snapshots_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON snapshots
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER simulations_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON simulations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER ballots_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ballots
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER decisions_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER vote_revocations_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vote_revocations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER key_revocations_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON key_revocations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER transitions_are_fixed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON transitions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER votes_stay BEFORE DELETE OR TRUNCATE ON votes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER votes_keep_their_content BEFORE UPDATE ON votes FOR EACH ROW
    WHEN (ROW (NEW.id, NEW.proposal_id, NEW.epoch, NEW.principal, NEW.validator, NEW.role, NEW.keyid, NEW.decision,
               NEW.recomputed, NEW.envelope, NEW.digest, NEW.issued_at, NEW.expires_at, NEW.at)
          IS DISTINCT FROM
          ROW (OLD.id, OLD.proposal_id, OLD.epoch, OLD.principal, OLD.validator, OLD.role, OLD.keyid, OLD.decision,
               OLD.recomputed, OLD.envelope, OLD.digest, OLD.issued_at, OLD.expires_at, OLD.at)
          OR (OLD.superseded_at IS NOT NULL AND NEW.superseded_at IS DISTINCT FROM OLD.superseded_at)
          OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at))
    EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER proposals_stay BEFORE DELETE OR TRUNCATE ON proposals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER proposals_keep_their_content BEFORE UPDATE ON proposals FOR EACH ROW
    WHEN (ROW (NEW.id, NEW.principal, NEW.kind, NEW.target, NEW.base_version, NEW.base_digest, NEW.body,
               NEW.body_digest, NEW.content, NEW.proposal_digest, NEW.created_at)
          IS DISTINCT FROM
          ROW (OLD.id, OLD.principal, OLD.kind, OLD.target, OLD.base_version, OLD.base_digest, OLD.body,
               OLD.body_digest, OLD.content, OLD.proposal_digest, OLD.created_at)
          OR NEW.epoch < OLD.epoch OR NEW.revision < OLD.revision OR NEW.lease_token < OLD.lease_token)
    EXECUTE FUNCTION refuse_rewrite();

-- The roles are the operator's; grants for those that do not exist are left out and made by hand later.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        REVOKE INSERT ON proposals_0001, events_0001 FROM firewall_app;
        GRANT SELECT ON transitions TO firewall_app;
        GRANT SELECT, INSERT ON targets, snapshots, proposals, simulations, ballots, votes, vote_revocations,
            key_revocations, decisions, applications, events TO firewall_app;
        GRANT UPDATE (state, frozen_reason, version, digest, observed_version, observed_digest, observed_at,
            last_leaf) ON targets TO firewall_app;
        GRANT UPDATE (state, revision, epoch, tier, quorum_rule, expires_at, attempts, lease_token, lease_until,
            approved_at, last_leaf) ON proposals TO firewall_app;
        GRANT UPDATE (superseded_at, revoked_at) ON votes TO firewall_app;
        GRANT UPDATE (state, attempts, next_attempt_at, observed_digest, failure, settled_at)
            ON applications TO firewall_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_monitor') THEN
        GRANT SELECT ON transitions, targets, snapshots, proposals, simulations, ballots, votes, vote_revocations,
            key_revocations, decisions, applications, events TO firewall_monitor;
    END IF;
END
$$;
