"""Judging one bundle, as a stranger, offline: the fourteen checks."""
