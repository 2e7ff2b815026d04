"""How every refusal looks over HTTP."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Every refusal: what to change, and a word for programs."""

    detail: str = Field(examples=["no job has the id 'pl_1'; list the jobs to see which there are"])
    code: str = Field(examples=["not_found"])


_TEXTS = {
    400: "The body is no JSON.",
    401: "No key, or one that does not work.",
    403: "The key's scopes do not include this.",
    404: "There is none, or it is not yours.",
    408: "The body did not come in time.",
    409: "The job's status does not allow it.",
    413: "The body is too large.",
    422: "Something in the request is wrong; the text says what to change.",
    424: "The task app is not there, or not one.",
    429: "Too many jobs wait already.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse with these statuses."""
    return {status: {"model": Problem, "description": _TEXTS[status]} for status in statuses}


BODY = refusals(400, 408, 413)
"""The `responses` of a route that reads a body, beside its own."""
