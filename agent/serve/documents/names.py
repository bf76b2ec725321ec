"""DICOM's names for UIDs and attributes, as a reader of PS3.6 knows them."""

from __future__ import annotations

from typing import Final

from pydicom.uid import UID

from agent.receive.contexts import RETIRED_ULTRASOUND

_SYNTAX_NAMES: Final = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
"""Newer than pydicom's dictionary."""


def name_of(uid: str) -> str:
    """Name a SOP class or a transfer syntax."""
    name = RETIRED_ULTRASOUND.get(uid) or _SYNTAX_NAMES.get(uid)
    if name is not None:
        return f"{spaced(name)} (retired)" if uid in RETIRED_ULTRASOUND else name
    return str(UID(uid).name).split(":")[0]


def spaced(keyword: str) -> str:
    """`PatientID` as `Patient ID`."""
    following = (*keyword[1:], "")
    return "".join(
        f" {sign}"
        if index and sign.isupper() and (keyword[index - 1].islower() or following[index].islower())
        else sign
        for index, sign in enumerate(keyword)
    )
