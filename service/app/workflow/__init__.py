"""The stages of a proposal, one a module; each is one transaction."""
