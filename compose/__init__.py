"""One description of the stack, and the ways to run it."""
