"""The OpenAI-compatible proxy that puts a candidate's prompt into the calls of a task app."""

from rollouts.service.interceptor.app import PREFIX, Interceptor
from rollouts.service.interceptor.substitution import Applied, Substitution
from rollouts.service.interceptor.trials import Desk

__all__ = ["PREFIX", "Applied", "Desk", "Interceptor", "Substitution"]
