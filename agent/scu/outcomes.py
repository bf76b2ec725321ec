"""What an archive's answers mean: tables from statuses and rejections to a verdict with its cause in words.

The verdict follows one rule: what the archive says may pass is tried again; what it says is permanent is not, because
sending the same bytes under the same names again cannot change it. An administrator may mend an AE title in the
archive; he then sends the dead letters again with `agent retry --reason delivery-failed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError, OutOfResourcesError

_OUT_OF_RESOURCES: Final = 0xA7
"""First byte of the status, of C-STORE, C-FIND, C-MOVE and C-GET alike (PS3.4 Tables B.2-1, C.4-1 to C.4-3)."""


class Verdict(Enum):
    """What to do after an answer."""

    PASSED = "passed"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True)
class Rule:
    """Statuses from `first` to `last`, both included."""

    first: int
    last: int
    verdict: Verdict
    words: str

    @property
    def span(self) -> str:
        """The statuses in hexadecimal, as the standard writes them."""
        return f"{self.first:04X}" if self.first == self.last else f"{self.first:04X} to {self.last:04X}"


def judge(rules: tuple[Rule, ...], status: int) -> Rule:
    """Find the first rule of a status. A status that no rule names may pass: archives invent their own."""
    for rule in rules:
        if rule.first <= status <= rule.last:
            return rule
    return Rule(status, status, Verdict.RETRY, "a status that DICOM does not define")


def require_passed(rules: tuple[Rule, ...], status: int, answered: str, *, note: str = "", remedy: str = "") -> Rule:
    """Raise what a status means, unless it is one to go on with; then return what it means.

    Parameters
    ----------
    answered
        Who answered what: "PACS@10.0.0.5:104 answered C-FIND".
    note
        Stands behind the meaning.

    Raises
    ------
    ArchiveError
        It may pass; `OutOfResourcesError` where it has no room.
    ArchiveRefusedError
        It will be the same again.
    """
    rule = judge(rules, status)
    if rule.verdict is Verdict.PASSED:
        return rule
    kind: type[AgentError] = ArchiveError if rule.verdict is Verdict.RETRY else ArchiveRefusedError
    if status >> 8 == _OUT_OF_RESOURCES:
        kind = OutOfResourcesError
    raise kind(f"{answered} with {status:04X}: {rule.words}{note}", remedy=remedy)


def spans(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Cut all 65536 statuses into runs of one meaning, in order: what `judge` says, written as a table."""
    cut: list[Rule] = []
    for status in range(0x10000):
        rule = judge(rules, status)
        if cut and (cut[-1].verdict, cut[-1].words) == (rule.verdict, rule.words):
            cut[-1] = Rule(cut[-1].first, status, rule.verdict, rule.words)
        else:
            cut.append(Rule(status, status, rule.verdict, rule.words))
    return tuple(cut)


def _one(status: int, verdict: Verdict, words: str) -> Rule:
    return Rule(status, status, verdict, words)


GENERAL_RULES: Final = (
    _one(0x0105, Verdict.FAILED, "no such attribute"),
    _one(0x0106, Verdict.FAILED, "invalid attribute value"),
    _one(0x0107, Verdict.PASSED, "attribute list error"),
    _one(0x0110, Verdict.RETRY, "processing failure"),
    _one(0x0112, Verdict.FAILED, "no such SOP instance"),
    _one(0x0115, Verdict.FAILED, "invalid argument value"),
    _one(0x0116, Verdict.PASSED, "attribute value out of range"),
    _one(0x0117, Verdict.FAILED, "invalid SOP instance"),
    _one(0x0118, Verdict.FAILED, "no such SOP class"),
    _one(0x0119, Verdict.FAILED, "class-instance conflict"),
    _one(0x0120, Verdict.FAILED, "missing attribute"),
    _one(0x0121, Verdict.FAILED, "missing attribute value"),
    _one(0x0122, Verdict.FAILED, "SOP class not supported"),
    _one(0x0124, Verdict.FAILED, "refused: not authorised"),
    _one(0x0210, Verdict.RETRY, "duplicate invocation"),
    _one(0x0211, Verdict.FAILED, "unrecognised operation"),
    _one(0x0212, Verdict.FAILED, "mistyped argument"),
    _one(0x0213, Verdict.RETRY, "resource limitation"),
    _one(0xFE00, Verdict.RETRY, "canceled"),
)
"""PS3.7 Annex C: statuses of every DIMSE service."""

FIND_RULES: Final = (
    _one(0x0000, Verdict.PASSED, "success"),
    Rule(0xA700, 0xA7FF, Verdict.RETRY, "refused: out of resources"),
    Rule(0xA900, 0xA9FF, Verdict.FAILED, "the query does not match the SOP class"),
    Rule(0xC000, 0xCFFF, Verdict.RETRY, "unable to process the query"),
    *GENERAL_RULES,
)
"""PS3.4 Table C.4-1, C-FIND."""

RETRIEVE_RULES: Final = (
    _one(0x0000, Verdict.PASSED, "success"),
    _one(0xB000, Verdict.PASSED, "some sub-operations failed"),  # what is missing is counted afterwards
    _one(0xA801, Verdict.FAILED, "move destination unknown"),
    Rule(0xA700, 0xA7FF, Verdict.RETRY, "refused: out of resources"),
    Rule(0xA900, 0xA9FF, Verdict.FAILED, "the request does not match the SOP class"),
    Rule(0xC000, 0xCFFF, Verdict.RETRY, "unable to process the request"),
    *GENERAL_RULES,
)
"""PS3.4 Tables C.4-2 (C-MOVE) and C.4-3 (C-GET)."""

ACTION_RULES: Final = (
    _one(0x0000, Verdict.PASSED, "success"),
    _one(0x0123, Verdict.FAILED, "no such action"),
    *GENERAL_RULES,
)
"""PS3.7 10.1.4.1.10, N-ACTION."""

PERMANENT: Final = 1
"""Result of A-ASSOCIATE-RJ: 1 rejected-permanent, 2 rejected-transient (PS3.8 Table 9-21)."""

REJECTIONS: Final[dict[tuple[int, int], tuple[bool, str, str]]] = {
    # (source, reason): may pass although called permanent, words, remedy
    (1, 1): (True, "no reason given", "see the archive's own log"),
    (1, 2): (False, "application context name not supported", "the peer is no DICOM archive"),
    (1, 3): (False, "calling AE title not recognised", "register our AE title, host and port at the archive"),
    (1, 7): (False, "called AE title not recognised", "correct the AE title before @ in the settings"),
    (2, 1): (True, "no reason given", "see the archive's own log"),
    (2, 2): (False, "protocol version not supported", "the peer is no DICOM archive"),
    (3, 1): (True, "temporary congestion", "the archive is overloaded"),
    (3, 2): (True, "local limit of associations exceeded", "allow more associations at the archive"),
}
"""PS3.8 Table 9-21. Without a stated reason, or out of congestion, even a permanent rejection may pass."""

CONTEXT_RESULTS: Final[dict[int, tuple[Verdict, str]]] = {
    1: (Verdict.FAILED, "user rejection"),
    2: (Verdict.RETRY, "no reason given"),
    3: (Verdict.FAILED, "abstract syntax not supported"),
    4: (Verdict.FAILED, "transfer syntax not supported"),
}
"""PS3.8 Table 9-18: result of one presentation context. What is not answered at all is refused too."""


def rejection(archive: str, ae_title: str, *, result: int, source: int, reason: int) -> AgentError:
    """Say why an association was rejected, as an error that knows whether to try again."""
    may_pass, words, remedy = REJECTIONS.get(
        (source, reason), (True, f"reason {reason} of source {source}", "see the archive's own log")
    )
    kind: type[AgentError] = ArchiveError if may_pass or result != PERMANENT else ArchiveRefusedError
    return kind(f"{archive} rejected the association from our AE title {ae_title}: {words}", remedy=remedy)


ASSOCIATION_OUTCOMES: Final[dict[str, tuple[Verdict, str, str]]] = {
    # what happens: verdict, in words, what is done next
    "unresolved": (Verdict.RETRY, "the host name cannot be resolved", "everything waits"),
    "refused": (Verdict.RETRY, "connection refused or reset, or no route", "everything waits"),
    "timeout": (
        Verdict.RETRY,
        "no connection in time",
        "everything waits; other work passes this archive by meanwhile",
    ),
    "tls": (Verdict.RETRY, "TLS fails, or the certificate is not trusted", "everything waits"),
    "no-answer": (Verdict.RETRY, "no answer to A-ASSOCIATE-RQ in time", "as for no connection in time"),
    "rejected-transient": (Verdict.RETRY, "A-ASSOCIATE-RJ, transient", "everything waits"),
    "rejected-permanent": (Verdict.FAILED, "A-ASSOCIATE-RJ, permanent, with a lasting reason", "dead letter"),
    "nothing-accepted": (Verdict.FAILED, "every presentation context refused for good", "dead letter"),
    "context-refused": (
        Verdict.FAILED,
        "the context of one object refused for good",
        "that object fails, others go on",
    ),
    "tiny-pdu": (Verdict.RETRY, "a maximum length of PDUs that no message fits into", "everything waits"),
    "aborted": (Verdict.RETRY, "A-ABORT while an object is sent", "that object waits, others go on at once"),
    "closed": (Verdict.RETRY, "connection closed while an object is sent", "as for A-ABORT"),
    "no-response": (Verdict.RETRY, "no valid response to C-STORE in time", "as for no connection in time"),
}
"""What may become of an association, and of what it was for; a test provokes each."""
