"""C-GET and C-MOVE of the Study Root model (PS3.4 Annex C.4.2, C.4.3): asking for instances until they have come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from agent.retrieve.listing import RemoteInstance
from agent.scu.association import MOST_CONTEXTS, Context, OpenAssociation
from agent.scu.outcomes import RETRIEVE_RULES, require_passed

STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_MODEL_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_UIDS_A_REQUEST: Final = 50
_PENDING: Final = frozenset({0xFF00, 0xFF01})  # PS3.4 Tables C.4-2 and C.4-3

TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # High-throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202",  # High-throughput JPEG 2000 Lossless RPCL
    "1.2.840.10008.1.2.4.203",  # High-throughput JPEG 2000
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.4.100",  # MPEG-2 Main Profile, Main Level
    "1.2.840.10008.1.2.4.101",  # MPEG-2 Main Profile, High Level
    "1.2.840.10008.1.2.4.102",  # H.264 High Profile, Level 4.1
    "1.2.840.10008.1.2.4.103",  # H.264 BD-compatible
    "1.2.840.10008.1.2.4.104",  # H.264 High Profile, Level 4.2, 2D
    "1.2.840.10008.1.2.4.106",  # H.264 Stereo High Profile
    "1.2.840.10008.1.2.4.107",  # HEVC Main Profile
    "1.2.840.10008.1.2.4.108",  # HEVC Main 10 Profile
)
"""What instances may be stored in at an archive (PS3.6 Annex A)."""


MOVE_CONTEXT: Final = Context(STUDY_ROOT_MOVE, _MODEL_SYNTAXES)


def get_contexts(sop_classes: Iterable[str]) -> list[Context]:
    """Propose C-GET and the storage classes in which instances may come back.

    One context for each pair of class and transfer syntax, where ids suffice: the archive can then send each instance
    in the syntax that it was stored in, and need not decompress.
    """
    classes = list(sop_classes)
    room = MOST_CONTEXTS - 1
    if len(classes) * len(TRANSFER_SYNTAXES) <= room:
        storage = [Context(one, (syntax,), as_scp=True) for one in classes for syntax in TRANSFER_SYNTAXES]
    else:
        storage = [Context(one, TRANSFER_SYNTAXES, as_scp=True) for one in classes[:room]]
    return [Context(STUDY_ROOT_GET, _MODEL_SYNTAXES), *storage]


def can_get(association: OpenAssociation, sop_classes: Iterable[str]) -> bool:
    """Whether the archive answers C-GET and will send every one of these classes to us on this association."""
    if not association.accepted_syntaxes(STUDY_ROOT_GET):
        return False
    return all(association.accepted_syntaxes(one, as_scp=True) for one in sop_classes)


def get(association: OpenAssociation, study: str, missing: Iterable[RemoteInstance], whole: set[str]) -> None:
    """Fetch by C-GET; the association's `on_store` receives the instances.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        As the status says. Sub-operations that failed are for the caller to count.
    """
    for identifier in _identifiers(study, list(missing), whole):
        try:
            answers = association.raw.send_c_get(identifier, STUDY_ROOT_GET)
        except RuntimeError as error:  # aborted since the last answer
            raise association.no_answer("C-GET") from error
        _follow(association, "C-GET", answers)


def move(
    association: OpenAssociation, study: str, missing: Iterable[RemoteInstance], whole: set[str], *, to: str
) -> None:
    """Have the archive send to the AE title `to`, whose listener receives the instances.

    Raises
    ------
    ArchiveRefusedError
        The archive accepts no C-MOVE, or does not know the destination.
    ArchiveError
        It failed in a way that may pass.
    """
    association.require(STUDY_ROOT_MOVE)
    for identifier in _identifiers(study, list(missing), whole):
        try:
            answers = association.raw.send_c_move(identifier, to, STUDY_ROOT_MOVE)
        except RuntimeError as error:  # aborted since the last answer
            raise association.no_answer("C-MOVE") from error
        _follow(association, "C-MOVE", answers, destination=to)


def _identifiers(study: str, missing: list[RemoteInstance], whole: set[str]) -> Iterator[Dataset]:
    """Ask for whole series where nothing of them is wanted less, else for instances by lists of UIDs.

    Parameters
    ----------
    whole
        Series Instance UIDs of which everything that the archive lists is missing and wanted.
    """
    by_series: dict[str, list[str]] = {}
    for instance in missing:
        by_series.setdefault(instance.series_instance_uid, []).append(instance.sop_instance_uid)
    for series, uids in by_series.items():
        if series in whole:
            yield _identifier("SERIES", study, series)
            continue
        for first in range(0, len(uids), _UIDS_A_REQUEST):
            yield _identifier("IMAGE", study, series, uids[first : first + _UIDS_A_REQUEST])


def _identifier(level: str, study: str, series: str, uids: list[str] | None = None) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = study
    identifier.SeriesInstanceUID = series
    if uids is not None:
        identifier.SOPInstanceUID = uids
    return identifier


def _follow(
    association: OpenAssociation, request: str, answers: Iterator[tuple[Any, Any]], destination: str = ""
) -> None:
    for answer, _ in answers:
        status = answer.get("Status")
        if status is None:
            raise association.no_answer(request)
        if status not in _PENDING:
            _check(association, request, int(status), destination)


def _check(association: OpenAssociation, request: str, status: int, destination: str) -> None:
    note, remedy = "", "see the archive's own log"
    if destination:
        note = f" (destination {destination})"
        remedy = "register our AE title, host and port at the archive, and let it reach our listener"
    answered = f"{association.archive} answered {request}"
    require_passed(RETRIEVE_RULES, status, answered, note=note, remedy=remedy)
