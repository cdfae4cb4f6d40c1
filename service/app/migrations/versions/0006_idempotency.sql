-- Records of old answers are thrown away by the service itself (workflow/janitor.py).

-- The roles are the operator's; grants for those that do not exist are left out and made by hand later.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        GRANT DELETE ON idempotency_records TO firewall_app;
    END IF;
END
$$;
