"""Checks: pure functions over the recorded evidence, each with histories it must refuse.

A check never passes for want of evidence: what was not seen, or not often enough, is ``unknown``.
"""
