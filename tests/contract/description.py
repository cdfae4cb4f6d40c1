"""Writes the description of the API as it is now to docs/openapi.json, the one last released: `./justw release-api`."""

import json
import sys
import time
from typing import Any, Final

from app.main import create_service
from app.settings import DatabaseAddress, Secret
from compose.settings import REPOSITORY
from tests.integration.service.running import settings_for

RELEASED: Final = REPOSITORY / "docs" / "openapi.json"


def current() -> dict[str, Any]:
    """Return what the service would serve; nothing is opened for it."""
    nowhere = DatabaseAddress(host="127.0.0.1", port=1, name="none", user="none", password=Secret(b"none"))
    return create_service(settings_for(nowhere), clock=time.monotonic).schema_document


def main() -> None:
    """Write it."""
    RELEASED.write_text(json.dumps(current(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"written: {RELEASED.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    main()
