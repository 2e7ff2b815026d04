"""Several sources, one list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rollouts.prompt_optimization.proposers.base import Proposal, ProposalContext, Proposer
from rollouts.prompt_optimization.proposers.guard import InstructionGuard


async def propose(
    proposers: Sequence[Proposer], context: ProposalContext, count: int, guard: InstructionGuard
) -> list[Proposal]:
    """Up to `count` different proposals: the sources work at once and take turns in the list.

    Whatever order the answers arrive in, the list is the same.
    """
    answers = await asyncio.gather(*(proposer.propose(context, count) for proposer in proposers))
    out: list[Proposal] = []
    queues = [list(reversed(answer)) for answer in answers]
    while any(queues) and len(out) < count:
        for queue in queues:
            if queue and len(out) < count:
                proposal = queue.pop()
                if guard(proposal.text) is None:
                    guard.remember(proposal.text)
                    out.append(proposal)
    return out
