"""Consent: which votes stand, and whether they are enough."""
