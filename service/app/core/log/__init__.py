"""What happened, as the log keeps it: events, leaves, the Merkle tree, checkpoints."""
