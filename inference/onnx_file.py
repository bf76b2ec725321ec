"""Reading an ONNX file just far enough to know that it holds all its weights itself.

External data lets a graph name any file that the process may read (CVE-2022-25882 and its successors). Engines differ
in what they resolve, so a member that refers to external data anywhere is refused before an engine sees it. A search
for bytes would miss what is encoded unusually; this walks the messages as the schema nests them (onnx.proto of ONNX
1.17). Engines must be told to read ONNX and nothing else, or they may take other formats by their first bytes.
"""

from __future__ import annotations

from typing import Final

from inference.onnx_wire import BYTES, VARINT, OnnxFileError, spans

_MOST_NESTED: Final = 64

_NESTED: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Which field of which message holds which message, as far as tensors can be reached."""
_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14
_DEFAULT_LOCATION: Final = 0
_GRAPH: Final = 7


def check_self_contained(content: bytes) -> None:
    """Refuse a graph that is not ONNX or refers to data outside itself.

    Raises
    ------
    OnnxFileError
        A tensor refers to external data, or the bytes are no ONNX model.
    """
    if not any(number == _GRAPH for number, *_ in spans(content, 0, len(content))):
        raise OnnxFileError("is not an ONNX model: it holds no graph")
    _check(content, "model", 0, len(content), _MOST_NESTED)


def _check(content: bytes, message: str, start: int, end: int, left: int) -> None:
    if not left:
        raise OnnxFileError(f"nests messages more than {_MOST_NESTED} deep")
    for number, wire, first, last in spans(content, start, end):
        if message == "tensor" and (
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and (wire, first) != (VARINT, _DEFAULT_LOCATION))
        ):
            raise OnnxFileError("refers to external data; a member must hold all its weights")
        inner = _NESTED[message].get(number)
        if inner is not None:
            if wire != BYTES:
                raise OnnxFileError(f"is damaged: field {number} of a {message} is not a message")
            _check(content, inner, first, last, left - 1)
