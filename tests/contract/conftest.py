"""The service in this process with a real PostgreSQL behind it, as the integration tests run it."""

from tests.integration.service.running import editor_key, server

__all__ = ["editor_key", "server"]
