"""Where rollouts run: this process (and, later, a cluster)."""

from rollouts.executors.local import Executor, LocalExecutor

__all__ = ["Executor", "LocalExecutor"]
