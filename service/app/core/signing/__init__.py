"""Who says so: keys, envelopes, and the statements inside them."""
