"""JSON as evidence: read strictly, written canonically, compared, pointed into, patched."""
