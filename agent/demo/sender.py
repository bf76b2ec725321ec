"""Pushing a study through a real association, as a modality does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import AE

from agent.domain.errors import ArchiveError

_CALLING: Final = "DEMO-US"
_CALLED: Final = "STEATOSIS"


def send_study(instances: Sequence[Dataset], *, host: str, port: int, called: str = _CALLED) -> None:
    """Send instances over one association.

    Raises
    ------
    ArchiveError
        The association was refused, or an instance was not stored.
    """
    ae = AE(ae_title=_CALLING)
    for ds in instances:
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = ae.associate(host, port, ae_title=called)
    if not association.is_established:
        raise ArchiveError(f"{called}@{host}:{port} did not accept the association")
    try:
        for ds in instances:
            status = association.send_c_store(ds)
            if status.get("Status") != 0:
                raise ArchiveError(f"{called}@{host}:{port} answered {status.get('Status', 'nothing')} to C-STORE")
    finally:
        association.release()
