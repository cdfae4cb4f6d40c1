-- What the gate must remember about its own rules: which versions a simulation was made under, and the keys whose
-- possession was proven here, so that a proposal can carry them into governance/validators.

CREATE TABLE simulation_pins (
    proposal_id uuid NOT NULL,
    epoch integer NOT NULL,
    policies_version bigint NOT NULL,
    policies_digest digest NOT NULL,
    validators_version bigint NOT NULL,
    validators_digest digest NOT NULL,
    corpus_version bigint NOT NULL,
    corpus_digest digest NOT NULL,
    engine_revision integer NOT NULL CHECK (engine_revision >= 1),
    PRIMARY KEY (proposal_id, epoch),
    FOREIGN KEY (proposal_id, epoch) REFERENCES simulations (proposal_id, epoch)
);

CREATE TABLE proven_keys (
    keyid digest PRIMARY KEY,
    validator text NOT NULL,
    principal text NOT NULL,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    possession bytea NOT NULL,
    proven_at timestamptz NOT NULL
);

CREATE TRIGGER simulation_pins_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON simulation_pins
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER proven_keys_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON proven_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        GRANT SELECT, INSERT ON simulation_pins, proven_keys TO firewall_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_monitor') THEN
        GRANT SELECT ON simulation_pins, proven_keys TO firewall_monitor;
    END IF;
END
$$;
