DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        REVOKE INSERT (id, principal, digest, roles, expires_at) ON api_keys FROM firewall_app;
        REVOKE UPDATE (revoked_at) ON api_keys FROM firewall_app;
    END IF;
END
$$;
DROP TRIGGER api_keys_stay_revoked ON api_keys;
DROP FUNCTION refuse_key_return();
ALTER TABLE api_keys DROP COLUMN revoked_by, DROP COLUMN created_by;
