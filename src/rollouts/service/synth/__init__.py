"""The HTTP routes that the synth-ai SDK speaks, on top of the service's own jobs."""

from rollouts.service.synth.extras import router as extras
from rollouts.service.synth.live import router as online
from rollouts.service.synth.routes import router as jobs

__all__ = ["extras", "jobs", "online"]
