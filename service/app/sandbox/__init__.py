"""Killable worker processes for rules that somebody else wrote: bounded memory, CPU and time."""
