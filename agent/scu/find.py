"""C-FIND, in the Study Root model (PS3.4 Annex C.6.2) with plain strings in and out, and what other models share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Final

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from agent.domain.errors import UNREADABLE
from agent.scu.association import Context, OpenAssociation
from agent.scu.outcomes import FIND_RULES, require_passed

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
FIND_CONTEXT: Final = Context(STUDY_ROOT_FIND, (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
_PENDING: Final = frozenset({0xFF00, 0xFF01})  # PS3.4 Table C.4-1


def find(association: OpenAssociation, level: str, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Ask for what matches.

    Parameters
    ----------
    level
        STUDY, SERIES or IMAGE. The unique keys of the levels above must be single values (no relational query).
    keys
        Keyword to value; an empty value asks for the attribute.

    Yields
    ------
    dict
        Each match: the asked keywords with their values as text, empty where the archive returned none.

    Raises
    ------
    ArchiveRefusedError
        The archive accepts no Study Root C-FIND, or refuses this one for good.
    ArchiveError
        It failed in a way that may pass.
    """
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    for match in answers_to(association, query, STUDY_ROOT_FIND):
        yield {keyword: text_of(match, keyword) for keyword in keys}


def answers_to(association: OpenAssociation, query: Dataset, model: str) -> Iterator[Dataset]:
    """Send a C-FIND in an information model and yield each match; raises as `find` does."""
    association.require(model)
    try:
        answers = association.raw.send_c_find(query, model)
    except RuntimeError as error:  # aborted since the last answer
        raise association.no_answer("C-FIND") from error
    for answer, match in answers:
        status = answer.get("Status")
        if status is None:
            raise association.no_answer("C-FIND")
        if status in _PENDING:
            if match is not None:
                yield match
            continue
        require_passed(FIND_RULES, int(status), f"{association.archive} answered C-FIND")


def text_of(match: Dataset, keyword: str) -> str:
    """Read one value as text. Tolerance: what cannot be read in an answer counts as absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of each odd value that archives return
        try:
            value = match.get(keyword)
        except (BytesLengthException, *UNREADABLE):
            return ""
    if value is None:
        return ""
    values = value if isinstance(value, MultiValue) else [value]
    return "\\".join(str(one).strip("\x00 ") for one in values)
