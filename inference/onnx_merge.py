"""One graph for the ensemble: the members side by side, on one input, and what they share only once.

Members that were fitted on a frozen front hold the same first layers, and all of them the same depth profile. A node is
shared only where its operator, attributes and inputs are the same to the last bit, down to the weights: then so is
what it computes, and the joined graph gives what the members give one after the other.

Numbers of fields are those of onnx.proto (ONNX 1.17).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.contract import INPUT_VIEWS, OUTPUTS
from inference.onnx_wire import OnnxFileError, bytes_field, number_of, parts, text_of, varint_field, without

_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTION = 1, 7, 8, 25
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 2, 5, 11, 12, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_NODE_IDENTITY: Final = (_NODE_OPERATOR, 7, 8)  # with its domain and overload
_ATTRIBUTE_GRAPHS: Final = (6, 11)
_TENSOR_NAME: Final = 8
_TENSOR_TELLING: Final = frozenset({_TENSOR_NAME, 12, 16})  # name, doc string, metadata
_VALUE_NAME, _VALUE_TYPE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_LEAST_OPSET: Final = 13
"""From here on Unsqueeze takes its axes as an input."""
_NEVER_SHARED: Final = frozenset({b"RandomNormal", b"RandomUniform", b"RandomNormalLike", b"RandomUniformLike"})
_FLOAT, _INT64 = 1, 7  # TensorProto.DataType


def merged(members: Sequence[bytes]) -> bytes:
    """Join member graphs; each output of `inference.contract` gets a first axis, the members in their order.

    Raises
    ------
    OnnxFileError
        The members are of different opsets, or use what this does not join: subgraphs, functions, sparse tensors.
    """
    joint = _Joint()
    outputs: list[dict[str, str]] = [joint.add(member) for member in members]
    for name in OUTPUTS:
        joint.stack(name, [output[name] for output in outputs])
    return joint.encoded(members[0])


@dataclass
class _Joint:
    """The joined graph as it grows."""

    tensors: list[bytes] = field(default_factory=list)
    nodes: list[bytes] = field(default_factory=list)
    known: dict[object, tuple[str, ...]] = field(default_factory=dict)
    """Names of what a node or a tensor yields, by everything that decides its value."""
    named: int = 0
    opsets: list[bytes] | None = None

    def add(self, member: bytes) -> dict[str, str]:
        """Add a member; returns the names of its outputs in the joined graph."""
        self._check(member)
        (graph,) = parts(member, _MODEL_GRAPH)
        if [_name(value) for value in parts(graph, _GRAPH_INPUT)] != [INPUT_VIEWS] or parts(graph, _GRAPH_SPARSE):
            raise OnnxFileError("cannot be joined: it has other inputs than views, or sparse tensors")
        names = {"": "", INPUT_VIEWS: INPUT_VIEWS}
        for tensor in parts(graph, _GRAPH_TENSOR):
            names[text_of(tensor, _TENSOR_NAME)] = self._tensor(tensor)
        for node in parts(graph, _GRAPH_NODE):
            self._node(node, names)
        try:
            return {name: names[name] for name in OUTPUTS}
        except KeyError as error:
            raise OnnxFileError(f"lacks the output {error}") from error

    def stack(self, name: str, values: list[str]) -> None:
        """Lay the members' outputs of one kind on a new first axis."""
        axis = self._tensor(varint_field(1, 1) + varint_field(2, _INT64) + bytes_field(9, bytes(8)))
        rows = [self._made(b"Unsqueeze", [value, axis]) for value in values]
        along = bytes_field(1, "axis") + varint_field(3, 0) + varint_field(20, 2)  # AttributeProto: name, i, INT
        self.nodes.append(_node_of(b"Concat", rows, [name]) + bytes_field(_NODE_ATTRIBUTE, along))

    def encoded(self, like: bytes) -> bytes:
        """Encode the model, with the input and the types of outputs of a member."""
        (graph,) = parts(like, _MODEL_GRAPH)
        members = len(parts(self.nodes[-1], _NODE_INPUT))
        types = {_name(value): parts(value, _VALUE_TYPE)[0] for value in parts(graph, _GRAPH_OUTPUT)}
        joined = [
            bytes_field(_GRAPH_NAME, "ensemble"),
            *(bytes_field(_GRAPH_NODE, node) for node in self.nodes),
            *(bytes_field(_GRAPH_TENSOR, tensor) for tensor in self.tensors),
            *(bytes_field(_GRAPH_INPUT, without(value, frozenset({4}))) for value in parts(graph, _GRAPH_INPUT)),
            *(bytes_field(_GRAPH_OUTPUT, _with_axis(name, types[name], members)) for name in OUTPUTS),
        ]
        return b"".join(
            [
                varint_field(_MODEL_IR, number_of(like, _MODEL_IR)),
                *(bytes_field(_MODEL_OPSET, opset) for opset in self.opsets or ()),
                bytes_field(_MODEL_GRAPH, b"".join(joined)),
            ]
        )

    def _check(self, member: bytes) -> None:
        opsets = sorted(parts(member, _MODEL_OPSET))
        version = max((number_of(one, _OPSET_VERSION) for one in opsets if not text_of(one, _OPSET_DOMAIN)), default=0)
        if self.opsets not in (None, opsets) or version < _LEAST_OPSET or parts(member, _MODEL_FUNCTION):
            raise OnnxFileError(f"cannot be joined: it has functions, or opset {version} differs or is too old")
        self.opsets = opsets

    def _tensor(self, tensor: bytes) -> str:
        content = without(tensor, _TENSOR_TELLING)
        key = hashlib.sha256(content).digest()
        if key not in self.known:
            (name,) = self.known[key] = (self._fresh(),)
            self.tensors.append(content + bytes_field(_TENSOR_NAME, name))
        return self.known[key][0]

    def _node(self, node: bytes, names: dict[str, str]) -> None:
        attributes = sorted(parts(node, _NODE_ATTRIBUTE))
        if any(parts(attribute, number) for attribute in attributes for number in _ATTRIBUTE_GRAPHS):
            raise OnnxFileError("cannot be joined: it has subgraphs")
        inputs = [names[name.decode()] for name in parts(node, _NODE_INPUT)]
        given = [name.decode() for name in parts(node, _NODE_OUTPUT)]
        (operator,) = parts(node, _NODE_OPERATOR)
        identity = tuple(tuple(parts(node, number)) for number in _NODE_IDENTITY)
        key = (identity, tuple(attributes), tuple(inputs), tuple(bool(name) for name in given))
        if key not in self.known or operator in _NEVER_SHARED:
            made = tuple(self._fresh() if name else "" for name in given)
            self.known[key] = made
            rest = without(node, frozenset({_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, 6, 9}))
            self.nodes.append(_linked(inputs, list(made), f"n{len(self.nodes)}") + rest)
        names.update(zip(given, self.known[key], strict=True))

    def _made(self, operator: bytes, inputs: list[str]) -> str:
        name = self._fresh()
        self.nodes.append(_node_of(operator, inputs, [name]))
        return name

    def _fresh(self) -> str:
        self.named += 1
        return f"t{self.named}"


def _node_of(operator: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    return _linked(inputs, outputs, f"made_{outputs[0]}") + bytes_field(_NODE_OPERATOR, operator)


def _linked(inputs: list[str], outputs: list[str], name: str) -> bytes:
    links = [*(bytes_field(_NODE_INPUT, one) for one in inputs), *(bytes_field(_NODE_OUTPUT, one) for one in outputs)]
    return b"".join([*links, bytes_field(_NODE_NAME, name)])


def _with_axis(name: str, kind: bytes, members: int) -> bytes:
    """Encode a ValueInfoProto of float32 with one axis more than the type has."""
    (tensor,) = parts(kind, 1)
    (shape,) = parts(tensor, 2)
    axis = bytes_field(1, varint_field(1, members))
    stacked = varint_field(1, _FLOAT) + bytes_field(2, axis + shape)
    return bytes_field(_VALUE_NAME, name) + bytes_field(_VALUE_TYPE, bytes_field(1, stacked))


def _name(value: bytes) -> str:
    return text_of(value, _VALUE_NAME)
