"""The fixtures of `running`, for every test in this folder."""

from tests.integration.service.running import bare_server, bare_servers, editor_key, server, viewer_key

__all__ = ["bare_server", "bare_servers", "editor_key", "server", "viewer_key"]
