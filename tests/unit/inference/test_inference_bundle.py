"""A bundle is whole, or it is refused with the cause before an engine sees a byte of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.backends.interface import BackendError
from inference.backends.registry import open_engine
from inference.bundle import Bundle
from inference.description import BundleError, canonical_digest, read_digest
from inference.onnx_file import check_self_contained
from inference.onnx_wire import OnnxFileError
from inference.predictor import Predictor
from inference.verify import verify

Description = dict[str, Any]


def rewrite(folder: Path, change: Callable[[Description], object]) -> None:
    path = folder / "bundle.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def replace_member(folder: Path, content: bytes) -> None:
    (folder / "member-0.onnx").write_bytes(content)
    rewrite(folder, lambda d: d["members"][0].update(sha256=hashlib.sha256(content).hexdigest()))


def test_the_shipped_bundle_is_whole_and_small(copy: Path) -> None:
    bundle = Bundle.load(copy)
    assert len(bundle.members) == 5
    assert sum(path.stat().st_size for path in copy.iterdir()) < 15e6
    assert bundle.description["research_use_only"] is True
    assert bundle.digest == read_digest(copy)


def test_the_digest_is_of_meaning_not_of_layout(copy: Path) -> None:
    before = read_digest(copy)
    rewrite(copy, lambda description: None)
    assert read_digest(copy) == before
    rewrite(copy, lambda d: d["calibration"].update(temperature=9.0))
    assert read_digest(copy) != before


@pytest.mark.parametrize("name", ["member-0.onnx", "member-4.onnx", "golden.npz"])
def test_one_changed_bit_is_found(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["member-0.onnx", "golden.npz", "bundle.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name) as caught:
        Bundle.load(copy)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["../member-0.onnx", "/etc/passwd", "sub/member.onnx"])
def test_a_member_lies_in_the_folder(copy: Path, name: str) -> None:
    rewrite(copy, lambda d: d["members"][0].update(file=name))
    with pytest.raises(BundleError, match="plain file name"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format=1), "format 2"),
        (lambda d: d.update(grades=["S0", "S1"]), "grades"),
        (lambda d: d.update(views=[]), "views"),
        (lambda d: d.update(members=[]), "members"),
        (lambda d: d.pop("calibration"), "calibration"),
        (lambda d: d["calibration"].update(temperature=0), "temperature"),
        (lambda d: d["calibration"]["fat_fraction_interval"].update(quantiles=[3, -3]), "quantiles"),
        (lambda d: d["input"].update(std=[0]), "std"),
        (lambda d: d["input"].update(height=0), "input"),
        (lambda d: d["input"].update(channels=2), "input"),
        (lambda d: d.update(expected_views=0), "expected_views"),
        (lambda d: d["cut_offs"].update(percent=[5]), "lacks or garbles"),
    ],
)
def test_a_description_that_cannot_be_right(copy: Path, change: Callable[[Description], object], words: str) -> None:
    rewrite(copy, change)
    with pytest.raises(BundleError, match=words):
        Bundle.load(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": NaN}', "[" * 100_000])
def test_a_description_that_is_no_description(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.load(copy)


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_a_graph_that_names_another_file_is_refused_wherever_it_hides(copy: Path) -> None:
    """The tensor may stand in the graph, in an attribute, in a subgraph, in a function, or be encoded twice."""
    external = field(13, field(1, b"location") + field(2, b"/etc/passwd"))
    located = varint(14 << 3) + b"\1"
    member = (copy / "member-0.onnx").read_bytes()
    for tensor in (external, located):
        attribute = field(5, tensor)
        for graph in (
            field(5, tensor),
            field(1, field(5, attribute)),
            field(1, field(5, field(6, field(5, tensor)))),
            field(15, field(1, tensor)),
        ):
            replace_member(copy, member + field(7, graph))
            with pytest.raises(BundleError, match="external data"):
                Bundle.load(copy)
        with pytest.raises(OnnxFileError, match="external data"):
            check_self_contained(member + field(25, field(7, field(5, attribute))))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x00" * 64, b"\xff" * 64, field(7, b"\x0a\xff")])
def test_bytes_that_are_no_graph(content: bytes) -> None:
    with pytest.raises(OnnxFileError):
        check_self_contained(content)


def test_messages_nested_without_end() -> None:
    graph = b""
    for _ in range(100):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(OnnxFileError, match="deep"):
        check_self_contained(field(7, graph))


def test_a_graph_that_is_hashed_but_no_graph_is_the_engines_word(copy: Path) -> None:
    replace_member(copy, field(7, b""))
    with pytest.raises(BackendError, match="member graph"):
        Predictor.open(copy)


def test_an_unknown_engine_names_those_known(predictor: Predictor) -> None:
    with pytest.raises(BackendError, match="onnxruntime"):
        open_engine("abacus", predictor.bundle.members)


def test_golden_vectors_agree_here(predictor: Predictor) -> None:
    verification = verify(predictor)
    assert verification.ok, verification.worst


def test_golden_vectors_find_members_that_answer_for_each_other(copy: Path) -> None:
    rewrite(copy, lambda d: d["members"].reverse())
    verification = verify(Predictor.open(copy))
    assert not verification.ok
    assert "deviates" in verification.worst


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_golden_vectors_that_are_not_whole(copy: Path, content: bytes) -> None:
    (copy / "golden.npz").write_bytes(content)
    rewrite(copy, lambda d: d["golden"].update(sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(BundleError, match="golden vectors"):
        verify(Predictor.open(copy))


def test_golden_vectors_without_a_case(copy: Path) -> None:
    np.savez(copy / "golden.npz", nothing=np.zeros(1))
    digest = hashlib.sha256((copy / "golden.npz").read_bytes()).hexdigest()
    rewrite(copy, lambda d: d["golden"].update(sha256=digest))
    with pytest.raises(BundleError, match="no case"):
        verify(Predictor.open(copy))


def test_the_description_is_digested_whatever_its_order() -> None:
    assert canonical_digest({"a": 1, "b": "ä"}) == canonical_digest({"b": "ä", "a": 1})
