-- API keys are made and revoked over the API too: who did it is written down, and what was revoked stays revoked.

ALTER TABLE api_keys ADD COLUMN created_by text, ADD COLUMN revoked_by text;

CREATE FUNCTION refuse_key_return() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a revoked key stays revoked' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER api_keys_stay_revoked BEFORE UPDATE OF revoked_at ON api_keys
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
    EXECUTE FUNCTION refuse_key_return();

-- The roles are the operator's; grants for those that do not exist are left out and made by hand later.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        GRANT INSERT (id, principal, digest, roles, expires_at, created_by) ON api_keys TO firewall_app;
        GRANT UPDATE (revoked_at, revoked_by) ON api_keys TO firewall_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_monitor') THEN
        GRANT SELECT (created_by, revoked_by) ON api_keys TO firewall_monitor;
    END IF;
END
$$;
