"""Jobs: their rows, the engine that runs them, the runners that know what each kind is, and their events."""

from rollouts.service.jobs.engine import Engine
from rollouts.service.jobs.events import Events
from rollouts.service.jobs.model import ENDED, JobRow, Status
from rollouts.service.jobs.runners import JobRunner, NativeRunner
from rollouts.service.jobs.table import JobTable
from rollouts.service.jobs.taskapp_runner import OWN_KEY, TaskAppRunner
from rollouts.service.jobs.webhooks import Webhooks

__all__ = [
    "ENDED",
    "OWN_KEY",
    "Engine",
    "Events",
    "JobRow",
    "JobRunner",
    "JobTable",
    "NativeRunner",
    "Status",
    "TaskAppRunner",
    "Webhooks",
]
