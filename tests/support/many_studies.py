"""As many studies as a test needs, from one that was drawn: the same pictures under other identities."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydicom.dataset import Dataset

from agent.domain.result_uids import derived_uid


def another(instances: Sequence[Dataset], name: str, *, views: int | None = None) -> tuple[str, list[Dataset]]:
    """Give a study another identity.

    Parameters
    ----------
    name
        Makes its UIDs and its patient: the same name makes the same study.
    views
        How many instances of it; None: all.

    Returns
    -------
    tuple
        Study Instance UID and instances.
    """
    study, made = derived_uid(name, "study"), []
    for number, original in enumerate(instances[:views]):
        ds = copy.deepcopy(original)  # a shallow copy shares its elements, and so the identity, with all others
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, derived_uid(name, "series")
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = derived_uid(name, "instance", number)
        ds.PatientID, ds.PatientName = name, f"Synthetic^{name}"
        made.append(ds)
    return study, made
