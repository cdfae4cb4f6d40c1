"""Stands in for the migrations, where a test is about the stack: there is nothing to apply."""
