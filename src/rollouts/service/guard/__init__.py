"""What stands between the service and a hostile world: addresses it may call, requests it reads, words it logs."""

from rollouts.service.guard.bodies import BodyLimit
from rollouts.service.guard.heads import head_limit
from rollouts.service.guard.redaction import LogFilter, hide, logging_config
from rollouts.service.guard.urls import UrlPolicy

__all__ = ["BodyLimit", "LogFilter", "UrlPolicy", "head_limit", "hide", "logging_config"]
