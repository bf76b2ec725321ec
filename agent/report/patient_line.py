"""Whose examination a picture shows, drawn only in letters that a font has: never in boxes."""

from __future__ import annotations

from typing import Final

from pydicom.charset import convert_encodings, decode_bytes, default_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from agent.report.canvas import is_drawable
from agent.report.evidence import SourceHeader
from agent.report.quiet import quiet_pydicom

GAP: Final = "   "
"""Between the parts of the line."""
ID_LABEL: Final = "ID"
UNDRAWABLE: str = "Patient: see the viewer's own header"


def patient_line(header: SourceHeader) -> str:
    """Say name, ID, date and accession number; what has no glyphs is left out, the ID stands alone if need be."""
    name = ", ".join(part for part in decoded(header, "PatientName").split("=")[0].split("^")[:2] if part)
    identity = [name if is_drawable(name) else "", _labelled(ID_LABEL, header, "PatientID")]
    if not any(identity):
        identity = [UNDRAWABLE]
    exam = [_day(header.identity.get("StudyDate", b"")), _labelled("Acc.", header, "AccessionNumber")]
    return GAP.join(part for part in (*identity, *exam) if part)


def decoded(header: SourceHeader, name: str) -> str:
    """Decode an identity attribute by the source's character set, for drawing only: never by a guess.

    pydicom reads as Latin 1 what no character set, or an unknown one, was declared for; the letters may be others.
    """
    delimiters = PN_DELIMS if name == "PatientName" else TEXT_VR_DELIMS
    terms = [term.strip() for term in header.character_set.decode("ascii", "replace").split("\\")]
    with quiet_pydicom():
        try:
            declared = ["ascii" if found == default_encoding else found for found in convert_encodings(terms)]
            return decode_bytes(header.identity.get(name, b""), declared, delimiters)
        except LookupError:
            return ""


def _labelled(label: str, header: SourceHeader, name: str) -> str:
    text = decoded(header, name)
    return f"{label} {text}" if is_drawable(text) else ""


def _day(value: bytes) -> str:
    text = value.decode("ascii", "replace")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if text else ""
