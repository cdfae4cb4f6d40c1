"""Stands in for the making of keys, where a test is about the stack: one for each line it is given."""

import sys

sys.stdout.write("".join(f"amgf_stand_in_{line.split()[0]}\n" for line in sys.stdin))
