DROP TRIGGER events_are_queued ON events;
DROP FUNCTION queue_event();
DROP TABLE log_quarantine;
DROP TABLE log_sequencer;
DROP TABLE log_checkpoints;
DROP TABLE log_nodes;
DROP TABLE log_entries;
DROP TABLE log_queue;
DROP FUNCTION refuse_log_gap();
