"""A judge's way to the study that pays for it: the metric is made before the study is."""

from __future__ import annotations

from rollouts.dtypes import Request, Response
from rollouts.errors import ConfigError
from rollouts.prompt_optimization import Study


class StudyGenerate:
    """A `generate` function that a metric can hold before there is a study; `bind` gives it one."""

    def __init__(self) -> None:
        self._study: Study | None = None

    def bind(self, study: Study) -> None:
        """From now on calls go through `study`: budgeted, cached, retried."""
        self._study = study

    async def __call__(self, request: Request) -> Response:
        if self._study is None:
            raise ConfigError("the judge was called outside a run")
        return await self._study.generate(request)
