"""A graph whose trunk computes in half precision, written out in its types.

TensorRT builds strongly typed networks: what computes in float16 or bfloat16 stands in the graph. Convolutions do,
and what lies between them and only passes values on; pooling, attention, heads and maps stay in float32, where sums
over many pixels would lose digits. Whether the result is near enough is for the golden vectors to say.

Numbers of fields are those of onnx.proto (ONNX 1.17).
"""

from __future__ import annotations

from typing import Final

from inference.onnx_wire import bytes_field, parts, text_of, varint_field, without

TYPES: Final = {"fp16": 10, "bf16": 16}
"""TensorProto.DataType by precision."""
_FLOAT: Final = 1
_COMPUTES: Final = frozenset({"Conv"})
_PASSES_ON: Final = frozenset({"Clip", "Relu", "Sigmoid", "Add", "Mul", "HardSwish"})
"""Stay in half precision where all that flows in is: activations, shortcuts and gates of a trunk."""
_GRAPH, _NODE, _TENSOR = 7, 1, 5
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_TENSOR_NAME: Final = 8


def in_half(model: bytes, precision: str) -> bytes:
    """Rewrite a model with float32 arithmetic; its input and outputs keep their types.

    Parameters
    ----------
    model
        ONNX, nodes in topological order, without subgraphs.
    precision
        "fp16" or "bf16".
    """
    (graph,) = parts(model, _GRAPH)
    rewriting = _Rewriting(graph, TYPES[precision])
    for node in parts(graph, _NODE):
        rewriting.add(node)
    nodes = b"".join(bytes_field(_NODE, node) for node in rewriting.nodes)
    return without(model, frozenset({_GRAPH})) + bytes_field(_GRAPH, without(graph, frozenset({_NODE})) + nodes)


class _Rewriting:
    """Nodes so far; for every value the name under which it exists in each type."""

    def __init__(self, graph: bytes, half: int) -> None:
        self.nodes: list[bytes] = []
        self._half = half
        self._in_half: dict[str, str] = {}
        self._constants = {text_of(t, _TENSOR_NAME) for t in parts(graph, _TENSOR)}

    def add(self, node: bytes) -> None:
        """Take a node over, in half precision where that is its kind."""
        operator = text_of(node, _OPERATOR)
        inputs = [name.decode() for name in parts(node, _INPUT)]
        outputs = [name.decode() for name in parts(node, _OUTPUT)]
        if operator == "Cast" and inputs[0] in self._constants:
            self._constants.add(outputs[0])  # weights that the bundle keeps as float16
        flowing = [name for name in inputs if name and name not in self._constants]
        passes_on = operator in _PASSES_ON and flowing and all(name in self._in_half for name in flowing)
        if operator not in _COMPUTES and not passes_on:
            self.nodes.append(node)
            return
        given = [self._half_of(name) for name in inputs]
        made = [f"{name}_h" for name in outputs]
        links = [*(bytes_field(_INPUT, name) for name in given), *(bytes_field(_OUTPUT, name) for name in made)]
        self.nodes.append(b"".join(links) + without(node, frozenset({_INPUT, _OUTPUT})))
        for name, half in zip(outputs, made, strict=True):
            self._in_half[name] = half
            self.nodes.append(_cast(half, name, _FLOAT))  # an engine drops those that nothing reads

    def _half_of(self, name: str) -> str:
        if name and name not in self._in_half:
            self._in_half[name] = f"{name}_h"
            self.nodes.append(_cast(name, f"{name}_h", self._half))
            if name in self._constants:
                self._constants.add(f"{name}_h")
        return self._in_half[name] if name else ""


def _cast(given: str, made: str, to: int) -> bytes:
    attribute = bytes_field(1, "to") + varint_field(3, to) + varint_field(20, 2)  # AttributeProto: name, i, INT
    links = bytes_field(_INPUT, given) + bytes_field(_OUTPUT, made) + bytes_field(_NAME, f"cast_{made}")
    return links + bytes_field(_OPERATOR, "Cast") + bytes_field(_ATTRIBUTE, attribute)
