"""The chaos harness: injects every documented failure mode and judges every documented claim."""
