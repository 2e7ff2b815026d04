"""The native HTTP API, below `/api/v1`."""

from rollouts.service.api.routes import router

__all__ = ["router"]
