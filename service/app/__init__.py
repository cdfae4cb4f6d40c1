"""The AI Mutation Governance Firewall: a runtime gate for AI self-modification."""
