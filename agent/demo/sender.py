"""Pushing a study through a real association, as a modality does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset

from agent.domain.errors import ArchiveError
from agent.domain.identifiers import Archive
from agent.scu.association import Context, associate
from agent.scu.config import ScuConfig

_CALLING: Final = "DEMO-US"
_CALLED: Final = "STEATOSIS"


def send_study(instances: Sequence[Dataset], *, host: str, port: int, called: str = _CALLED) -> None:
    """Send instances over one association.

    Raises
    ------
    ArchiveError
        There is no association, or an instance was not stored.
    ArchiveRefusedError
        The association was rejected for good.
    """
    to = Archive(ae_title=called, host=host, port=port)
    kinds = dict.fromkeys((str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in instances)
    contexts = [Context(sop_class, (syntax,)) for sop_class, syntax in kinds]
    with associate(to, ScuConfig(ae_title=_CALLING), contexts) as association:
        for ds in instances:
            status = association.raw.send_c_store(ds)
            if status.get("Status") != 0:
                raise ArchiveError(f"{to} answered {status.get('Status', 'nothing')} to C-STORE")
