"""What archives answer to C-STORE and to requests for storage commitment, as tables from codes to what is done next."""

from __future__ import annotations

from enum import Enum
from typing import Final

from agent.scu.outcomes import GENERAL_RULES, Rule, Verdict, judge

STORE_RULES: Final = (
    Rule(0x0000, 0x0000, Verdict.PASSED, "success"),
    # Warnings: the object is stored, perhaps with changes that are not ours to judge
    Rule(0xB000, 0xB000, Verdict.PASSED, "stored with coerced elements"),
    Rule(0xB006, 0xB006, Verdict.PASSED, "stored with elements discarded"),
    Rule(0xB007, 0xB007, Verdict.PASSED, "stored although it does not match its SOP class"),
    Rule(0xB000, 0xBFFF, Verdict.PASSED, "stored with a warning"),
    Rule(0x0001, 0x0001, Verdict.PASSED, "stored with a warning"),
    # The archive has it already, says PS3.7 C.5.7; C-FIND decides whether that is so
    Rule(0x0111, 0x0111, Verdict.PASSED, "duplicate SOP instance"),
    Rule(0xA700, 0xA7FF, Verdict.RETRY, "refused: out of resources"),
    Rule(0xA900, 0xA9FF, Verdict.FAILED, "the data set does not match its SOP class"),
    Rule(0xC000, 0xCFFF, Verdict.FAILED, "cannot understand the data set"),
    *GENERAL_RULES,
)
"""PS3.4 Table B.2-1 and PS3.7 9.1.1.1.9."""


def judge_store(status: int) -> Rule:
    """Find what a C-STORE status means."""
    return judge(STORE_RULES, status)


class AfterDenial(Enum):
    """What to do after an archive reported that it does not commit to an object."""

    SEND_AGAIN = "send again"
    ASK_AGAIN = "ask again"
    C_FIND_DECIDES = "C-FIND decides"
    FAILED = "failed"


COMMITMENT_FAILURES: Final[dict[int, tuple[AfterDenial, str]]] = {
    0x0110: (AfterDenial.ASK_AGAIN, "processing failure"),
    0x0112: (AfterDenial.SEND_AGAIN, "no such object instance"),
    0x0119: (AfterDenial.FAILED, "class-instance conflict"),
    0x0122: (AfterDenial.C_FIND_DECIDES, "referenced SOP class not supported"),
    0x0131: (AfterDenial.ASK_AGAIN, "duplicate transaction UID"),
    0x0213: (AfterDenial.ASK_AGAIN, "resource limitation"),
}
"""Failure Reason (0008,1197) of a report of storage commitment (PS3.3 C.14.1.1)."""
UNKNOWN_FAILURE: Final = (AfterDenial.ASK_AGAIN, "a reason that DICOM does not define")
