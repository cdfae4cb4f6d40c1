"""Stands in for the making of keys, where a test is about the stack."""

import sys

sys.stdout.write("amgf_stand_in\n")
