"""Fakes to test programs, optimizers and stores with: no network, no waiting, no money."""

from rollouts.testing.clock import FakeClock
from rollouts.testing.scripted import ScriptedLLM
from rollouts.testing.simulated import SimulatedLLM
from rollouts.testing.task import SimulatedTask

__all__ = ["FakeClock", "ScriptedLLM", "SimulatedLLM", "SimulatedTask"]
