"""How fast the parts of the gate are, against the library or the ordinary way. Never a timed test."""
