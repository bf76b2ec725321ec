"""What can go wrong while a report is built; none of it passes by itself."""

from __future__ import annotations

from agent.domain.errors import AgentError
from agent.domain.results import ResultObject


class EvidenceError(AgentError):
    """The instances that a report must name cannot be read, or do not belong to it."""


class ReportRequestError(AgentError):
    """The caller's outcome, views and pictures disagree."""


class GateError(AgentError):
    """A finished object breaks one of our rules and must not leave the room.

    Parameters
    ----------
    rule
        Name of the rule, as in `agent.report.gate.RULES`.
    made
        The object, for the quarantine.
    """

    def __init__(self, rule: str, cause: str, made: ResultObject) -> None:
        super().__init__(
            f"{made.kind} breaks rule {rule!r}: {cause}",
            remedy="nothing was sent; report this as a defect, the object lies in the quarantine of the data folder",
        )
        self.rule = rule
        self.made = made
