"""The provider behind the service's models answers as in `world`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rollouts.testing import MockProvider
from tests.service.synth.world import app, reply
from tests.taskapp.kit import served


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    async with MockProvider(reply=reply) as mock:
        yield mock


@pytest.fixture
async def app_url() -> AsyncIterator[str]:
    """A task app."""
    async with served(app()) as url:
        yield url
