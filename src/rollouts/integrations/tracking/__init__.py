"""Runs told to a tracker of experiments while they go on: MLflow, Weights & Biases."""

from rollouts.integrations.tracking.base import Begun, Ended, Tracker
from rollouts.integrations.tracking.registry import TRACKERS, make_tracker
from rollouts.integrations.tracking.tracking import Tracking

__all__ = ["TRACKERS", "Begun", "Ended", "Tracker", "Tracking", "make_tracker"]
