"""What the pages say: where a study stands, times and spans, in people's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from agent.domain.score import REFUSAL_MEANINGS, Refusal
from agent.worklist.blinding import is_masked
from agent.worklist.browsing import Row

STATUS_WORDS: Final = {
    "waiting": "Waiting for images",
    "queued": "Queued",
    "fetching": "Fetching",
    "analysing": "Analysing",
    "sending": "Sending",
    "held": "Held",
    "withheld": "Withheld, blinded",
    "done": "Done",
    "no-score": "No score",
    "failed": "Failed",
    "canceled": "Canceled",
}
STATUS_HINTS: Final = {
    "held": "Nothing leaves before a person decides: Retry sends it as it is, Cancel ends it.",
    "failed": "Retry tries once more; the runbook names the remedy of each cause.",
    "no-score": "Not a negative result: a report says so in the archive.",
}
"""What to do, for those who may."""
PLAN_WORDS: Final = {
    "spool": "from the images kept here",
    "archive": "from the archive",
    "would be scheduled": "would be scored",
}
"""What a command would do, said to who is asked to confirm it."""
_REASONS: Final = {
    "held:patient-id-differs-within-study": "patient id differs within the study",
    "held:order-is-another-patients": "the order with its accession number is another patient's",
    "withheld": "scored and kept until it is released",
    "superseded": "more images came: a newer work item scores them",
    "canceled-by-operator": "by an operator",
    "canceled-by-peer": "by a peer, as Unified Procedure Step",
    "released": "released by a retry",
}
ORDER_WORDS: Final = {
    "match": "matches the order",
    "mismatch": "the order is another patient's",
    "accepted": "the order is another patient's, accepted by an operator",
    "no-order": "no order with this accession number",
    "no-accession-number": "the images carry no accession number",
    "unreachable": "the worklist could not be asked",
}
_SPANS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def reason_words(reason: str | None) -> str:
    """Say a coded reason in words; what is not coded is said as it is."""
    if not reason:
        return ""
    if reason in set(Refusal):
        return REFUSAL_MEANINGS[Refusal(reason)]
    return _REASONS.get(reason, reason)


def plan_words(text: str) -> str:
    """Say in words what a command would do, and with which images."""
    return PLAN_WORDS.get(text, text)


def span(seconds: float) -> str:
    """Say how long, in the largest unit that fits: 45 s, 12 min, 3 h, 8 d."""
    for size, unit in _SPANS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.1f} s"


def clock(text: str | None) -> str:
    """Date and time of an ISO text, to the second."""
    return "" if not text else text[:19].replace("T", " ")


def moment(seconds: float) -> str:
    """Date and time of a ledger time, UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def day(date: str) -> str:
    """Write a DICOM date (PS3.5 6.2, DA) with dashes; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdecimal() else date


def status_detail(row: Row, now: float, quiet_seconds: float) -> str:
    """Say more of a status: a countdown while images may still come, what keeps results from an archive, the reason."""
    if row.status == "waiting" and row.quiet_since is not None:
        left = row.quiet_since + quiet_seconds - now
        return f"closes in {span(left)}" if left >= 1 else "closing"
    if row.status == "sending" and row.delivery_error:
        return f"{row.delivery_error}; tried again by itself"
    return reason_words(row.reason)


def views_used(outcome: dict[str, Any] | None) -> str:
    """Say how many views were used, and of how many where the model was made for more."""
    if outcome is None or is_masked(outcome):
        return ""
    used, expected = sum(1 for view in outcome["views"] if view["used"]), outcome["expected_views"]
    return f"{used} of {expected}" if used < expected else str(used)
