"""Files that somebody has, sent to a listener of ours as a modality would: `agent push`, and the page's upload.

They take the one way in that every instance takes, so limits, checks, audit and durability are those of C-STORE.
We call with our own AE title.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.deliver.storage_scu import PartTenFile, storage_contexts, store
from agent.domain.errors import AgentError
from agent.domain.identifiers import Archive, checked_uid
from agent.scu.association import MOST_CONTEXTS, AssociationGoneError, Context, associate
from agent.scu.config import ScuConfig
from agent.serve.composition.dicom import scu_of
from agent.settings import Settings
from agent.store.layout import files_under
from agent.store.part_ten import read_part_ten_header

_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one listens is not where one calls
_VERIFICATION: Final = "1.2.840.10008.1.1"
_IMPLICIT: Final = "1.2.840.10008.1.2"
_KINDS: Final = MOST_CONTEXTS - 1
_TOLD_EVERY: Final = 100


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What became of one file: it is stored where `fault` is None.

    Parameters
    ----------
    study_instance_uid
        None where the file is no DICOM object, so that nothing was sent.
    """

    path: Path
    study_instance_uid: str | None
    fault: AgentError | None


def own_listener(settings: Settings) -> Archive:
    """Say how our own listener is called from this machine."""
    dicom = settings.dicom
    return Archive(ae_title=dicom.ae_title, host=_EVERY_ADDRESS.get(dicom.host, dicom.host), port=dicom.port)


def push_paths(
    settings: Settings, to: Archive, paths: Sequence[Path], progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Send what lies under the paths.

    Returns
    -------
    list of dict
        For each study how many objects are stored and how many were refused; each refusal was told as it came.

    Raises
    ------
    AgentError
        The listener cannot be reached, or went away.
    """
    files = files_under(paths)
    counts: dict[str, dict[str, int]] = {}
    for number, pushed in enumerate(push_files(settings, to, files), 1):
        if pushed.fault is not None:
            progress(f"{pushed.path}: not sent: {pushed.fault}")
        if pushed.study_instance_uid is not None:
            count = counts.setdefault(pushed.study_instance_uid, {"stored": 0, "refused": 0})
            count["stored" if pushed.fault is None else "refused"] += 1
        if number % _TOLD_EVERY == 0:
            progress(f"{number} of {len(files)} files")
    return [{"study_instance_uid": study, **count} for study, count in counts.items()]


def push_file(settings: Settings, to: Archive, path: Path) -> tuple[str | None, AgentError | None]:
    """Send one file: its Study Instance UID (None: no DICOM object), and why it was refused (None: it is stored).

    Raises
    ------
    AgentError
        The listener cannot be reached, or went away.
    """
    (pushed,) = push_files(settings, to, [path])
    return pushed.study_instance_uid, pushed.fault


def push_files(settings: Settings, to: Archive, paths: Sequence[Path]) -> Iterator[Pushed]:
    """Send files over as few associations as their kinds allow, and say of each what became of it.

    Raises
    ------
    AgentError
        The listener cannot be reached, or went away: nothing is said of the files that are left.
    """
    kinds: dict[tuple[str, str], list[tuple[PartTenFile, str]]] = {}
    for path in paths:
        try:
            header, syntax, offset = read_part_ten_header(path)
            study = checked_uid(header.study_instance_uid, "Study Instance UID")
        except AgentError as error:
            yield Pushed(path=path, study_instance_uid=None, fault=error)
            continue
        file = PartTenFile(
            path=path,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=syntax,
            offset=offset,
        )
        kinds.setdefault((file.sop_class_uid, syntax), []).append((file, study))
    of_a_kind = list(kinds.values())
    for first in range(0, len(of_a_kind), _KINDS):
        together = [file for kind in of_a_kind[first : first + _KINDS] for file in kind]
        yield from _over_one_association(scu_of(settings), to, together)


def _over_one_association(scu: ScuConfig, to: Archive, files: list[tuple[PartTenFile, str]]) -> Iterator[Pushed]:
    # Verification is accepted anywhere, so an association stands, and each refused kind of object is named by itself
    contexts = [Context(_VERIFICATION, (_IMPLICIT,)), *storage_contexts(file for file, _ in files)]
    with associate(to, scu, contexts) as association:
        for number, (file, study) in enumerate(files):
            try:
                store(association, file, number % 0xFFFF + 1)
            except AssociationGoneError:
                raise
            except AgentError as error:
                yield Pushed(path=file.path, study_instance_uid=study, fault=error)
            else:
                yield Pushed(path=file.path, study_instance_uid=study, fault=None)
