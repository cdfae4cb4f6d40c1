"""Reads what a growing file of lines has gained, line by line."""

from pathlib import Path


class LineFollower:
    """Gives the complete lines added since the last call; a torn last line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[str]:
        """Return what is new; nothing while the file does not exist."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content.rpartition(b"\n")[0]
        if not complete:
            return []
        self._offset += len(complete) + 1
        return complete.decode(errors="replace").split("\n")
