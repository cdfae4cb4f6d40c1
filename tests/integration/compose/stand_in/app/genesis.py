"""Stands in for the founding, where a test is about the stack: there is nothing to found."""
