"""A small MCP server: in this process, or as one of its own by `python mcp_server.py`."""

from __future__ import annotations

import base64
import logging
import os
import sys
from typing import Any

from mcp.server.mcpserver import Image, MCPServer


def make_server() -> MCPServer[Any]:
    """A server that counts its calls, so that its past can be seen."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)  # it reports the tools' errors on standard error
    server = MCPServer("small")
    state = {"count": 0}

    @server.tool()
    def add(a: int, b: int) -> str:
        """Adds two whole numbers."""
        return str(a + b)

    @server.tool(name="files.count")
    def count() -> int:
        """How often this was called."""
        state["count"] += 1
        return state["count"]

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("the shelf is empty")

    @server.tool()
    def picture() -> Image:
        """A picture."""
        return Image(data=base64.b64decode("iVBORw0KGgo="), format="png")

    @server.tool()
    def die() -> str:
        """Ends the server."""
        print("giving up, the key was", os.environ.get("KEY"), file=sys.stderr, flush=True)
        os._exit(3)

    return server


if __name__ == "__main__":
    make_server().run()
