"""Killable worker processes in which a stranger's rules, patterns and patches are tried."""
