-- Proposals, their events, the records that make retries safe, and the keys that let clients in.

CREATE TABLE proposals (
    id uuid PRIMARY KEY,
    principal text NOT NULL,
    target text NOT NULL,
    base_version bigint NOT NULL CHECK (base_version >= 0),
    body_digest text NOT NULL CHECK (body_digest ~ '^[0-9a-f]{64}$'),
    proposal_digest text NOT NULL CHECK (proposal_digest ~ '^sha256:[0-9a-f]{64}$'),
    body bytea NOT NULL,
    state text NOT NULL CHECK (state IN (
        'pending', 'simulating', 'simulated', 'approved', 'applying', 'applied',
        'denied', 'rejected', 'expired', 'withdrawn', 'stale', 'failed', 'rolled_back')),
    created_at timestamptz NOT NULL
);

CREATE TABLE events (
    id uuid PRIMARY KEY,
    proposal_id uuid NOT NULL REFERENCES proposals (id),
    kind text NOT NULL,
    principal text NOT NULL,
    state_from text,
    state_to text NOT NULL,
    body_digest text NOT NULL,
    at timestamptz NOT NULL
);

CREATE INDEX events_by_proposal ON events (proposal_id, id);

CREATE TABLE idempotency_records (
    principal text NOT NULL,
    method text NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    status smallint NOT NULL,
    location text,
    response bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (principal, method, route, key)
);

CREATE INDEX idempotency_records_by_age ON idempotency_records (created_at);

CREATE TABLE api_keys (
    id text PRIMARY KEY CHECK (id ~ '^[0-9A-Za-z]{12}$'),
    principal text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

-- Events are written once, by anybody: also the owner and an application that was taken over must drop this first.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The roles are the operator's; grants for those that do not exist are left out and made by hand later.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        GRANT SELECT, INSERT ON proposals, events, idempotency_records TO firewall_app;
        GRANT SELECT, UPDATE (last_used_at) ON api_keys TO firewall_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_monitor') THEN
        GRANT SELECT ON proposals, events, idempotency_records TO firewall_monitor;
        GRANT SELECT (id, principal, roles, created_at, expires_at, revoked_at, last_used_at)
            ON api_keys TO firewall_monitor;
    END IF;
END
$$;
