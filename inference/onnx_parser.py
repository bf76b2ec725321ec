"""What TensorRT's parser needs otherwise than the exporter writes it: a softmax over a vector gets a second dimension.

Numbers of fields are those of onnx.proto (ONNX 1.17).
"""

from __future__ import annotations

from typing import Final

from inference.onnx_wire import bytes_field, number_of, parts, varint_field, without

_GRAPH, _NODE, _TENSOR = 7, 1, 5
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_INTEGER: Final = 3
_INT64: Final = 7
_AXIS: Final = "softmax_first_axis"


def with_flat_softmax(model: bytes) -> bytes:
    """Put an axis of one before each softmax over the first axis, and take it away behind it; values stay the same."""
    (graph,) = parts(model, _GRAPH)
    nodes = b"".join(bytes_field(_NODE, made) for node in parts(graph, _NODE) for made in _rewritten(node))
    axis = varint_field(1, 1) + varint_field(2, _INT64) + bytes_field(9, bytes(8)) + bytes_field(8, _AXIS)
    rest = without(graph, frozenset({_NODE})) + bytes_field(_TENSOR, axis)
    return without(model, frozenset({_GRAPH})) + bytes_field(_GRAPH, nodes + rest)


def _rewritten(node: bytes) -> list[bytes]:
    if parts(node, _OPERATOR) != [b"Softmax"] or _axis(node) != 0:
        return [node]
    given, made = parts(node, _INPUT)[0].decode(), parts(node, _OUTPUT)[0].decode()
    axis = bytes_field(1, "axis") + varint_field(_ATTRIBUTE_INTEGER, 1) + varint_field(20, 2)
    return [
        _node("Unsqueeze", [given, _AXIS], f"{made}_row"),
        _node("Softmax", [f"{made}_row"], f"{made}_soft") + bytes_field(_ATTRIBUTE, axis),
        _node("Squeeze", [f"{made}_soft", _AXIS], made),
    ]


def _axis(node: bytes) -> int:
    """Axis of a softmax; -1 where the node does not say."""
    named = [attribute for attribute in parts(node, _ATTRIBUTE) if parts(attribute, 1) == [b"axis"]]
    return number_of(named[0], _ATTRIBUTE_INTEGER) if named else -1


def _node(operator: str, inputs: list[str], output: str) -> bytes:
    links = [*(bytes_field(_INPUT, one) for one in inputs), bytes_field(_OUTPUT, output)]
    return b"".join([*links, bytes_field(_NAME, f"made_{output}"), bytes_field(_OPERATOR, operator)])
