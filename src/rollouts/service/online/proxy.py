"""The addresses of online jobs: a call gets the prompt that its rollout was given, and goes on to the interceptor."""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rollouts.errors import RolloutsError, ServiceError
from rollouts.service.interceptor import PREFIX
from rollouts.service.interceptor.reply import Reply
from rollouts.service.online.system import ONLINE, Systems

ROLLOUT_ID = r"[A-Za-z0-9_.:@+=,~ -]{1,200}"
"""Ids of rollouts, which go into addresses and headers."""

_CANDIDATE = b"x-mipro-candidate-id"
_ROLLOUT = b"x-mipro-rollout-id"


class Live(NamedTuple):
    """What a path below `PREFIX` + `ONLINE` names. `rollout` is empty where a call stands for itself."""

    token: str
    rollout: str
    route: str


class OnlineProxy:
    """The interceptor, and before it the answers below `PREFIX` + `ONLINE`: `TOKEN/ROLLOUT/chat/completions`, or
    `TOKEN/chat/completions` for a rollout of one call.

    The answer's headers say which candidate and which rollout it was. `systems` are set when the service starts.
    """

    PREFIX = PREFIX + ONLINE

    def __init__(self, interceptor: ASGIApp) -> None:
        self._interceptor = interceptor
        self.systems: Systems | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        if not scope["path"].startswith(self.PREFIX):
            await self._interceptor(scope, receive, send)
            return
        reply = Reply(send)
        try:
            if scope["method"] != "POST":
                raise ServiceError("use POST here", status=405, code="method_not_allowed")
            live = live_of(scope["path"].removeprefix(self.PREFIX))
            if self.systems is None:
                raise ServiceError("the service is starting", status=503, code="starting")
            system = self.systems.served(live.token)
            alone = live.rollout or f"trace_{secrets.token_hex(16)}"
            rollout = system.rollout(alone)
        except RolloutsError as error:
            reply.problem(error)
            await reply.end()
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(_CANDIDATE, rollout.candidate.encode()), (_ROLLOUT, rollout.id.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self._interceptor({**scope, "path": f"{rollout.path}/{live.route}", "query_string": b""}, receive, told)


def live_of(path: str) -> Live:
    """What a path names. The route may stand there twice, because apps append it to addresses that end in it already.

    Raises ServiceError (404) for any other path.
    """
    token, *rest = path.strip("/").split("/")
    route = ""
    while rest:
        if rest[-2:] == ["chat", "completions"]:
            rest, route = rest[:-2], "chat/completions"
        elif rest[-1] == "responses":
            rest, route = rest[:-1], "responses"
        else:
            break
    if not token or not route or len(rest) > 1 or not all(re.fullmatch(ROLLOUT_ID, name) for name in rest):
        wanted = f"no such route: POST to {PREFIX}{ONLINE}TOKEN/ROLLOUT/chat/completions"
        raise ServiceError(wanted, status=404, code="not_found")
    return Live(token, rest[0] if rest else "", route)
