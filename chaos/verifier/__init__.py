"""The harness's own reading of the bytes: canonical form, envelopes, quorum, Merkle tree, signed notes.

A second implementation, written from the documents alone and sharing nothing with the service: where the two disagree,
one of them is wrong and a run says so. Pure functions over bytes; no clock, no network, no database.
"""
