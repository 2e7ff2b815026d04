"""One module at work: a model, its messages, and the tools it may call."""

from rollouts.agents.run import AgentLimits, run_agent

__all__ = ["AgentLimits", "run_agent"]
