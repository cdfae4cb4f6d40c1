"""The log's signing key: checkpoints, and nothing else, are signed with it (Ed25519)."""

from app import ed25519
from app.core.log import checkpoint as checkpoints
from app.core.log.checkpoint import Checkpoint
from app.security.signatures import PrivateKey
from app.settings import Secret


class LogKey:
    """Signs and opens checkpoints of one origin."""

    def __init__(self, seed: Secret, *, origin: str) -> None:
        self._key = PrivateKey(seed.reveal())
        self._origin = origin

    def sign(self, *, size: int, root: bytes) -> bytes:
        """Return the note of a checkpoint."""
        checkpoint = Checkpoint(self._origin, size, root)
        return checkpoints.signed(checkpoint, public_key=self._key.public_key, sign=self._key.sign)

    def open(self, note: bytes) -> Checkpoint:
        """Return the checkpoint in `note`.

        Raises:
            CheckpointFlaw: if it is none, or not signed by this key.
        """
        return checkpoints.opened(note, origin=self._origin, public_key=self._key.public_key, verify=ed25519.verify)
