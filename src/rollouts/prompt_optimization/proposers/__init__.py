"""Where instructions come from: a model, and rules that need none; what a proposal must satisfy."""

from rollouts.prompt_optimization.proposers.base import Proposal, ProposalContext, Proposer, Tried
from rollouts.prompt_optimization.proposers.copies import Copies
from rollouts.prompt_optimization.proposers.guard import InstructionGuard
from rollouts.prompt_optimization.proposers.llm import LLMProposer
from rollouts.prompt_optimization.proposers.pool import propose
from rollouts.prompt_optimization.proposers.rules import RuleProposer

__all__ = [
    "Copies",
    "InstructionGuard",
    "LLMProposer",
    "Proposal",
    "ProposalContext",
    "Proposer",
    "RuleProposer",
    "Tried",
    "propose",
]
