"""What an archive lets us do, found out by asking: for `agent doctor`, before a study waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from agent.deliver.storage_scu import PLAIN, syntaxes
from agent.domain.errors import AgentError
from agent.domain.identifiers import Archive
from agent.scu.association import Context, NoConnectionError, OpenAssociation, associate
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT, STUDY_ROOT_FIND, find

_VERIFICATION: Final = "1.2.840.10008.1.1"
_STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_NATIVE: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_OURS: Final = (
    ("1.2.840.10008.5.1.4.1.1.88.34", "our structured reports", (PLAIN,)),  # Comprehensive 3D SR Storage
    ("1.2.840.10008.5.1.4.1.1.7", "our heatmaps and summaries", syntaxes(JPEGBaseline8Bit)),  # Secondary Capture
)
_SYNTAXES: Final = (*_NATIVE, JPEGBaseline8Bit, JPEG2000Lossless)
VERIFICATION_CONTEXT: Final = Context(_VERIFICATION, _NATIVE)
_CONTEXTS: Final = (
    VERIFICATION_CONTEXT,
    FIND_CONTEXT,
    Context(_GET, _NATIVE),
    Context(_MOVE, _NATIVE),
    Context(_STORAGE_COMMITMENT, _NATIVE),
    *(Context(sop_class, (syntax,)) for sop_class, _, _ in _OURS for syntax in _SYNTAXES),
)
_NOWHERE: Final = "2.25.0"  # a UID that names nothing: the archive must answer with no match


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was probed."""

    subject: str
    ok: bool
    message: str
    """What was found, or the true cause."""
    remedy: str = ""


def probe_archive(archive: Archive, scu: ScuConfig, *, retrieve: bool = False) -> tuple[Finding, ...]:
    """Try what delivery and retrieval need of an archive; nothing is stored there.

    Parameters
    ----------
    retrieve
        Studies are fetched from it (`archive.query`): without C-MOVE and C-GET that is a fault.

    Returns
    -------
    tuple of Finding
        In the order of trying; it ends early where nothing further can be tried. Never raises an AgentError.
    """
    connection = f"{archive} connection"
    try:
        with associate(archive, scu, _CONTEXTS) as association:
            found = tuple(_association(association, scu, retrieve))
    except NoConnectionError as error:
        return (_fault(connection, error),)
    except AgentError as error:
        found = (_fault(f"{archive} association", error),)
    return (Finding(subject=connection, ok=True, message="TLS" if scu.tls_cert else "TCP, not encrypted"), *found)


def _association(association: OpenAssociation, scu: ScuConfig, retrieve: bool) -> Iterator[Finding]:
    archive = association.archive
    yield Finding(subject=f"{archive} association", ok=True, message=f"accepted from {scu.ae_title}")
    for sop_class, what, needed in _OURS:
        yield _storage(association, sop_class, what, needed)
    yield _retrieval(association, retrieve)
    yield _commitment(association)
    yield _tried(archive, "C-ECHO", lambda: echo(association))
    yield _tried(archive, "C-FIND", lambda: _find(association))


def _storage(association: OpenAssociation, sop_class: str, what: str, needed: tuple[str, ...]) -> Finding:
    """Find one of the transfer syntaxes accepted in which our objects can be sent, the first being that they are in."""
    subject = f"{association.archive} storage of {UID(sop_class).name}"
    accepted = association.accepted_syntaxes(sop_class)
    if any(one in accepted for one in needed):
        names = "accepted as " + ", ".join(UID(one).name for one in accepted)
        decoded = "" if needed[0] in accepted else f"; {what} are decoded for it"
        return Finding(subject=subject, ok=True, message=names + decoded)
    try:
        association.require(sop_class, needed[0])
    except AgentError as error:
        return _fault(subject, error, f"{what} cannot be filed: ")
    raise AssertionError("a context that is not accepted is refused")


def _retrieval(association: OpenAssociation, needed: bool) -> Finding:
    offered = [name for name, model in (("C-GET", _GET), ("C-MOVE", _MOVE)) if association.accepted_syntaxes(model)]
    return Finding(
        subject=f"{association.archive} retrieval",
        ok=bool(offered) or not needed,
        message=f"by {' and '.join(offered)}" if offered else "neither C-GET nor C-MOVE is accepted",
        remedy="" if offered else "allow Study Root C-MOVE or C-GET at the archive, to replay from it",
    )


def _commitment(association: OpenAssociation) -> Finding:
    offered = bool(association.accepted_syntaxes(_STORAGE_COMMITMENT))
    return Finding(
        subject=f"{association.archive} storage commitment",
        ok=True,
        message="offered" if offered else "not offered: C-FIND proves delivery",
    )


def _tried(archive: Archive, name: str, action: Callable[[], str]) -> Finding:
    try:
        return Finding(subject=f"{archive} {name}", ok=True, message=action())
    except AgentError as error:
        return _fault(f"{archive} {name}", error)


def echo(association: OpenAssociation) -> str:
    """Ask for a C-ECHO and say what it answered.

    Raises
    ------
    AgentError
        Verification is not accepted, or there was no answer.
    """
    association.require(_VERIFICATION)
    try:
        status = association.raw.send_c_echo().get("Status")
    except RuntimeError as error:  # aborted since the last answer
        raise association.no_answer("C-ECHO") from error
    if status is None:
        raise association.no_answer("C-ECHO")
    return f"answered {int(status):04X}"


def _find(association: OpenAssociation) -> str:
    association.require(STUDY_ROOT_FIND)
    list(find(association, "STUDY", {"StudyInstanceUID": _NOWHERE}))
    return "answers; delivery can be proved"


def _fault(subject: str, error: AgentError, prefix: str = "") -> Finding:
    return Finding(subject=subject, ok=False, message=prefix + error.cause, remedy=error.remedy)
