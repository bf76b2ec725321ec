"""Files that no ledger knows: the row that it would hold of one, for scoring outside a running agent."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.domain.eligibility import reason_not_scored
from agent.domain.study import Instance
from agent.store.part_ten import read_file_header


def instance_of(path: Path) -> Instance:
    """Make the row that the ledger would hold, from a Part 10 file that it does not.

    `sha256` tells files apart; it is of the path, so that files need not be read twice.

    Raises
    ------
    RequestorError
        The file cannot be read, or its UIDs are none.
    """
    header, transfer_syntax_uid = read_file_header(path)
    reason = reason_not_scored(header)
    return Instance(
        id=0,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        sha256=hashlib.sha256(str(path).encode()).hexdigest(),
        bytes=path.stat().st_size,
        may_be_scored=reason is None,
        not_scored_reason=reason,
    )
