"""One module at work: a model, its messages, and the tools it may call."""

from rollouts.agents.environment import opened, tools_of
from rollouts.agents.limits import AgentLimits
from rollouts.agents.recorder import Recorder
from rollouts.agents.run import run_agent

__all__ = ["AgentLimits", "Recorder", "opened", "run_agent", "tools_of"]
