"""A small client of the service, sync and async."""

from rollouts.client.asynchronous import AsyncClient
from rollouts.client.model import Event, Job
from rollouts.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Event", "Job"]
