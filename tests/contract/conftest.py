"""The service in this process with a real PostgreSQL behind it, as the integration tests run it."""

import pytest

from tests.integration.service.running import Server, server


@pytest.fixture(scope="session")
def editor_key(server: Server) -> str:
    """A key that reaches past the roles of every route but the admin's."""
    return server.key("editor", "validator")


__all__ = ["server"]
