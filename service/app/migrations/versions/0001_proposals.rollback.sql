DROP TABLE idempotency_records;
DROP TABLE events;
DROP TABLE proposals;
DROP TABLE api_keys;
DROP FUNCTION refuse_change();
