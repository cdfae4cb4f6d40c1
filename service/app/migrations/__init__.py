"""The schema: plain SQL versions, one runner at a time, edited versions are noticed (FM03, FM11)."""
