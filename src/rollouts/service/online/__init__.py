"""Online mode: prompts are served to live traffic, rewards come back, and the best one is learnt."""

from rollouts.service.online.proxy import ROLLOUT_ID, OnlineProxy
from rollouts.service.online.runner import OnlineRunner
from rollouts.service.online.system import OnlineSystem, Systems, replaced
from rollouts.service.online.work import OnlineOptions

__all__ = ["ROLLOUT_ID", "OnlineOptions", "OnlineProxy", "OnlineRunner", "OnlineSystem", "Systems", "replaced"]
