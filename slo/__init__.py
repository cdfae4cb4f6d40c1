"""Objectives, alerts, profiles and error-budget arithmetic, from one specification."""
