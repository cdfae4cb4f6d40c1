-- The log: events in the order that the sequencer gave them, the tree over their leaves, the checkpoints signed over it.
-- Written once; what changes is the queue, which empties, and the one row that says who numbers.

-- Every event waits here from the commit of its transaction until it has a number. One that commits late is seen late
-- and numbered late; it cannot be skipped, as it would be by a position in `events`.
CREATE TABLE log_queue (
    ordinal bigint PRIMARY KEY,
    event_id uuid NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- With the owner's rights: the application may take events out of the queue, never put any in.
CREATE FUNCTION queue_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO log_queue (ordinal, event_id) VALUES (NEW.ordinal, NEW.id);
    RETURN NULL;
END
$$;

CREATE TRIGGER events_are_queued AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION queue_event();

INSERT INTO log_queue (ordinal, event_id) SELECT ordinal, id FROM events ORDER BY ordinal;

CREATE TABLE log_entries (
    index bigint PRIMARY KEY CHECK (index >= 0),
    event_id uuid NOT NULL UNIQUE REFERENCES events (id),
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    queued_at timestamptz NOT NULL,
    sequenced_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The hashes of the perfect subtrees above the leaves, 2^level leaves each: what proofs and tiles are made of.
CREATE TABLE log_nodes (
    level smallint NOT NULL CHECK (level BETWEEN 1 AND 53),
    number bigint NOT NULL CHECK (number >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, number)
);

CREATE TABLE log_checkpoints (
    size bigint PRIMARY KEY CHECK (size > 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    note bytea NOT NULL CHECK (octet_length(note) <= 16384),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who numbers. The token grows with every holder; a batch of an older one is refused in its own transaction.
CREATE TABLE log_sequencer (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    token bigint NOT NULL CHECK (token >= 0),
    holder text,
    since timestamptz
);

INSERT INTO log_sequencer (token) VALUES (0);

-- An open row stops numbering, signing and applying in every replica. Only the owner closes one.
CREATE TABLE log_quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    replica text NOT NULL,
    reason text NOT NULL CHECK (reason IN ('rewound', 'forked', 'damaged', 'watermark-missing', 'watermark-unreadable')),
    size bigint NOT NULL,
    watermark_size bigint,
    watermark_root bytea,
    lifted_at timestamptz
);

CREATE UNIQUE INDEX log_quarantine_one_open ON log_quarantine ((true)) WHERE lifted_at IS NULL;

CREATE FUNCTION refuse_log_gap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    least bigint;
    greatest bigint;
    entries bigint;
BEGIN
    SELECT min(index), max(index), count(*) INTO least, greatest, entries FROM added;
    IF entries > 0 AND (greatest - least + 1 <> entries
                        OR (least > 0 AND NOT EXISTS (SELECT FROM log_entries WHERE index = least - 1))) THEN
        RAISE EXCEPTION 'the log has no gaps' USING ERRCODE = 'check_violation', CONSTRAINT = 'log_entries_follow';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER log_entries_follow AFTER INSERT ON log_entries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION refuse_log_gap();
CREATE TRIGGER log_entries_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER log_nodes_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER log_checkpoints_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER log_quarantine_stays BEFORE DELETE OR TRUNCATE ON log_quarantine
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- The roles are the operator's; grants for those that do not exist are left out and made by hand later.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_app') THEN
        GRANT SELECT, DELETE ON log_queue TO firewall_app;
        GRANT SELECT, INSERT ON log_entries, log_nodes, log_checkpoints, log_quarantine TO firewall_app;
        GRANT SELECT, UPDATE (token, holder, since) ON log_sequencer TO firewall_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'firewall_monitor') THEN
        GRANT SELECT ON log_queue, log_entries, log_nodes, log_checkpoints, log_sequencer, log_quarantine
            TO firewall_monitor;
    END IF;
END
$$;
