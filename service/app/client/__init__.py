"""The command-line client of proposers, validators and auditors; talks HTTP, or works offline."""
