"""The fixtures of `running` and `gate`, for every test in this folder."""

from tests.integration.service.gate import gate, party
from tests.integration.service.running import bare_server, bare_servers, editor_key, server, viewer_key

__all__ = ["bare_server", "bare_servers", "editor_key", "gate", "party", "server", "viewer_key"]
