DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        REVOKE DELETE ON idempotency_records FROM firewall_app;
    END IF;
END
$$;
