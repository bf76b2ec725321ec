"""How a patient stands on the page: a keyed hash, initials, or nothing. Names are never in the ledger or the cache."""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError

from agent.domain.errors import UNREADABLE
from agent.store.layout import Layout
from agent.worklist import browsing, known_studies
from agent.worklist.ledger import Ledger

PatientShown = Literal["hash", "initials", "none"]
_HASH: Final = re.compile(r"P-[0-9a-f]{10}")
_CACHED: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Patients:
    """What the pages may say of patients.

    Parameters
    ----------
    shown
        `hash`: "P-" and 10 digits, the same for the same patient of this installation, and of no use elsewhere;
        `initials`: as the kept images name the patient; `none`: nothing, accession numbers neither.
    secret
        Key of the hash: without it, trying every possible Patient ID would find the patient.
    """

    ledger: Ledger
    layout: Layout
    shown: PatientShown
    secret: bytes

    def hashed(self, patient_id: str, issuer: str) -> str:
        """Hash a Patient ID with its issuer; empty where there is none."""
        if not patient_id:
            return ""
        text = f"{issuer}\0{patient_id}".encode()
        return "P-" + hmac.new(self.secret, b"patient\0" + text, hashlib.sha256).hexdigest()[:10]

    def labels(self, rows: Iterable[browsing.Row]) -> dict[str, str]:
        """Say who the patient of each row is, by Study Instance UID."""
        rows = list(rows)
        if self.shown == "none":
            return {row.study_instance_uid: "" for row in rows}
        if self.shown == "hash":
            return {row.study_instance_uid: self.hashed(row.patient_id, row.issuer_of_patient_id) for row in rows}
        images = known_studies.first_images(self.ledger, [row.study_instance_uid for row in rows])
        return {uid: _initials_in(self.layout.instance(digest)) for uid, digest in images.items()}

    def accession(self, number: str) -> str:
        """Return what of an accession number may be shown."""
        return "" if self.shown == "none" else number

    def matching(self, text: str) -> tuple[tuple[str, str], ...] | None:
        """Find the patient that a hash names; None where the text is no hash."""
        if _HASH.fullmatch(text) is None:
            return None
        return tuple(pair for pair in known_studies.patients(self.ledger) if self.hashed(*pair) == text)

    def hash_of_id(self, text: str) -> str | None:
        """Turn a Patient ID that somebody typed into its hash, so that the id stays in no address."""
        if self.shown == "none" or not text:
            return None
        return next((self.hashed(*pair) for pair in known_studies.patients(self.ledger, text)), None)


@lru_cache(maxsize=_CACHED)
def _initials_in(path: Path) -> str:
    """Read initials from the name in a kept image; the name itself is forgotten at once."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are the sender's, and a warning would quote them
            ds = dcmread(path, stop_before_pixels=True, specific_tags=["PatientName"])
            name = ds.get("PatientName")
            parts = [] if name is None else [name.given_name, name.family_name]
    except (OSError, InvalidDicomError, BytesLengthException, struct.error, *UNREADABLE):
        return ""
    return "".join(f"{part.strip()[0].upper()}." for part in parts if part and part.strip())
