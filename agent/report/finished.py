"""What the gate's rules look at: an object as it would be sent, and what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from agent.domain.results import ResultKind, ResultObject
from agent.report.envelope import ReportedStudy
from agent.report.evidence import IDENTITY_TYPE_2, IDENTITY_TYPE_3
from agent.report.read_back import Item, read_back, values_of

SOP_CLASSES: Final = {
    ResultKind.STRUCTURED_REPORT: Comprehensive3DSRStorage,
    ResultKind.SUMMARY: SecondaryCaptureImageStorage,
    ResultKind.HEATMAP: SecondaryCaptureImageStorage,
    ResultKind.DOCUMENT: EncapsulatedPDFStorage,
    ResultKind.REJECTION_NOTE: KeyObjectSelectionDocumentStorage,
    ResultKind.COLOUR_STATE: ColorSoftcopyPresentationStateStorage,
    ResultKind.GREY_STATE: GrayscaleSoftcopyPresentationStateStorage,
}
_TEXTS: Final = frozenset(
    {
        "TextValue",
        "CodeMeaning",
        "ImageComments",
        "DerivationDescription",
        "SeriesDescription",
        "DocumentTitle",
        "UnformattedTextValue",
    }
)
_BINARY: Final = frozenset({b"SQ", b"OB", b"OW", b"US", b"UL", b"SL", b"FD", b"FL"})
_FOREIGN: Final = frozenset({*IDENTITY_TYPE_2, *IDENTITY_TYPE_3, "SpecificCharacterSet"})
"""The source's own bytes."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An object as it would be sent, and what it was made of."""

    study: ReportedStudy
    made: ResultObject

    @cached_property
    def _both(self) -> tuple[Item, Item]:
        return read_back(self.made.encoded)

    @property
    def meta(self) -> Item:
        """Its file meta information."""
        return self._both[0]

    @property
    def read(self) -> Item:
        """Its data set; raises NotReadableError where it is none."""
        return self._both[1]

    @property
    def is_report(self) -> bool:
        """Whether it is the Structured Report."""
        return self.made.kind is ResultKind.STRUCTURED_REPORT

    @property
    def is_picture(self) -> bool:
        """Whether it has pixels."""
        return self.made.kind in (ResultKind.SUMMARY, ResultKind.HEATMAP)

    @cached_property
    def items(self) -> list[Item]:
        """Items of its sequences, at any depth."""
        return list(self.read.everything())[1:]

    @cached_property
    def words(self) -> list[tuple[str, bytes, list[str]]]:
        """Keyword, VR and values of everything of ours that is text, at any depth."""
        return [
            (name, vr, values_of(vr, value))
            for item in (self.read, *self.items)
            for name, (vr, value) in item.elements.items()
            if vr not in _BINARY and name not in _FOREIGN
        ]

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        """Keyword and words of what is there to be read."""
        return [(name, "\\".join(values)) for name, _, values in self.words if name in _TEXTS]


Rule = Callable[[Finished], "str | None"]
"""Says in one sentence what is wrong, or nothing."""


def has_purpose(item: Item, value: str) -> bool:
    """Whether the one purpose of a reference is a code of this value."""
    purposes = item.items("PurposeOfReferenceCodeSequence")
    return len(purposes) == 1 and purposes[0].text("CodeValue") == value


def named(sequence: Iterable[Item]) -> list[str]:
    """SOP Instance UIDs that a sequence refers to, at any depth."""
    inside = (item for holder in sequence for item in holder.everything())
    return [item.text("ReferencedSOPInstanceUID") for item in inside if "ReferencedSOPInstanceUID" in item]
