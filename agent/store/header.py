"""Reading the elements up to (0020,000E) of an instance: bounded, whatever the file holds.

Tolerances, each met in the field: group 2 inside a data set, wrong value representations, unknown character sets,
undefined lengths, missing type 1 and 2 elements other than the UIDs.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any, BinaryIO, Final

from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from agent.domain.errors import RequestorError
from agent.domain.identifiers import checked_uid
from agent.domain.study import InstanceHeader

MOST_BYTES: Final = 1 << 20
"""Elements up to (0020,000E) beyond this are not looked at (design, section 3.1); also the limit of inflation."""
_LAST_TAG: Final = 0x0020000E
_CANNOT_UNDERSTAND: Final = 0xC000  # PS3.4 Table B.2-1
_PARSING_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_header(file: BinaryIO) -> tuple[InstanceHeader, str, int]:
    """Read a Part 10 file's header.

    Returns
    -------
    tuple
        The header with its UIDs checked, the transfer syntax UID, and the offset of the data set.

    Raises
    ------
    RequestorError
        It cannot be read, or a UID that names the instance is missing or impossible.
    """
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            read_preamble(file, force=False)
            meta, offset = _meta(file)
            syntax = UID(str(meta.TransferSyntaxUID))
            return _header(_elements(file.read(MOST_BYTES), syntax)), str(syntax), offset
    except _PARSING_ERRORS as error:
        raise RequestorError(
            f"the data set cannot be read up to its Series Instance UID: {type(error).__name__}",
            status=_CANNOT_UNDERSTAND,
            remedy="the sender encoded it wrongly, or with more than 1 MiB before Series Instance UID",
        ) from error


def _meta(file: BinaryIO) -> tuple[FileMetaDataset, int]:
    meta = FileMetaDataset(_read_file_meta_info(file))
    return meta, file.tell()


def _elements(encoded: bytes, syntax: UID) -> Dataset:
    if syntax == DeflatedExplicitVRLittleEndian:
        encoded = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, MOST_BYTES)
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    found = Dataset()
    try:
        found.update(read_dataset(io.BytesIO(encoded), implicit, little, stop_when=_past_header))
    except EOFError as error:
        raise ValueError("elements up to (0020,000E) end too early or are too long") from error
    return found


def _past_header(tag: int, _vr: str | None, _length: int) -> bool:
    return int(tag) > _LAST_TAG


def _header(ds: Dataset) -> InstanceHeader:
    return InstanceHeader(
        sop_class_uid=checked_uid(_text(ds, "SOPClassUID"), "SOP Class UID"),
        sop_instance_uid=checked_uid(_text(ds, "SOPInstanceUID"), "SOP Instance UID"),
        study_instance_uid=checked_uid(_text(ds, "StudyInstanceUID"), "Study Instance UID"),
        series_instance_uid=checked_uid(_text(ds, "SeriesInstanceUID"), "Series Instance UID"),
        modality=_text(ds, "Modality"),
        image_type=tuple(_texts(ds, "ImageType")),
        manufacturer=_text(ds, "Manufacturer"),
        manufacturer_model_name=_text(ds, "ManufacturerModelName"),
        device_uid=_text(ds, "DeviceUID"),
        series_description=_text(ds, "SeriesDescription"),
        content_qualification=_text(ds, "ContentQualification"),
        patient_id=_text(ds, "PatientID")[:256],
        issuer_of_patient_id=_text(ds, "IssuerOfPatientID")[:256],
        study_date=_text(ds, "StudyDate"),
        study_description=_text(ds, "StudyDescription"),
        accession_number=_text(ds, "AccessionNumber")[:64],
        algorithm_names=tuple(_algorithms(ds)),
    )


def _algorithms(ds: Dataset) -> list[str]:
    try:
        return [_text(item, "ManufacturerModelName") for item in ds.get("ContributingEquipmentSequence") or ()]
    except _PARSING_ERRORS:
        return []


def _text(ds: Dataset, keyword: str) -> str:
    return next(iter(_texts(ds, keyword)), "")


def _texts(ds: Dataset, keyword: str) -> list[str]:
    """Values of an element as text; one that cannot be decoded reads as absent, its bytes stay on disk."""
    try:
        value: Any = ds.get(keyword)
    except _PARSING_ERRORS:
        return []
    if value is None or isinstance(value, bytes):
        return []
    values = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    return [str(part).strip(" \0") for part in values]
