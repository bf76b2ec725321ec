"""What an archive lists in answer to C-FIND."""

from __future__ import annotations

from collections.abc import Iterable

from agent.domain.results import Delivery
from agent.scu.association import OpenAssociation
from agent.scu.find import find


def listed(association: OpenAssociation, rows: Iterable[Delivery]) -> set[int]:
    """Ask the archive which of these objects it lists.

    One query per series that asks for every SOP Instance UID in it: every Study Root SCP supports that (PS3.4
    C.6.2.1), while lists of UIDs, though in the standard, are refused by some; and our series are small.

    Returns
    -------
    set of int
        Row ids of those that the archive lists under the study and series that we wrote.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        As `find` does.
    """
    by_series: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        by_series.setdefault((row.study_instance_uid, row.series_instance_uid), []).append(row)
    found: set[int] = set()
    for (study, series), members in by_series.items():
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        uids = {match["SOPInstanceUID"] for match in find(association, "IMAGE", keys)}
        found |= {row.id for row in members if row.sop_instance_uid in uids}
    return found
