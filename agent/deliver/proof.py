"""How we know that an archive has an object: it lists it in answer to C-FIND.

The seam for storage commitment: `prove` answers which objects are proved and how. Whoever adds commitment asks for it
before C-FIND here, and `deliver_result` need not change.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.domain.results import Delivery, Proof
from agent.scu.association import OpenAssociation
from agent.scu.find import find


def prove(association: OpenAssociation, rows: Iterable[Delivery]) -> dict[int, Proof]:
    """Ask the archive which of these objects it has.

    One query per series that asks for every SOP Instance UID in it: every Study Root SCP supports that (PS3.4
    C.6.2.1), while lists of UIDs, though in the standard, are refused by some; and our series are small.

    Returns
    -------
    dict
        Proof by row id, for those that the archive lists under the study and series that we wrote.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        As `find` does.
    """
    by_series: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        by_series.setdefault((row.study_instance_uid, row.series_instance_uid), []).append(row)
    proved: dict[int, Proof] = {}
    for (study, series), members in by_series.items():
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        listed = {match["SOPInstanceUID"] for match in find(association, "IMAGE", keys)}
        proved |= {row.id: Proof.C_FIND for row in members if row.sop_instance_uid in listed}
    return proved
