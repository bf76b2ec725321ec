"""The fast path's reader, for any bytes cut anyhow: it refuses or reads, as a plain reading of PS3.8 says."""

from __future__ import annotations

import itertools
import random
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode
from pynetdicom.pdu import P_DATA_TF

from agent.receive.fast.command import StoreCommand, read_store, store_response
from agent.receive.fast.stream import DataStream, MalformedError
from tests.support.pdu_corpus import SEQUENCES, mutated
from tests.unit.receive.reception import store_command

MAXIMUM = 4096
Read = tuple[list[tuple[int, int, bytes]], bytes, bool]
"""Values as (context, control, content), what is not P-DATA-TF, and whether it was refused."""

streams = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda seed, names: b"".join(mutated(random.Random(seed), SEQUENCES[name]) for name in names),
        st.integers(0, 2**32),
        st.lists(st.sampled_from(sorted(SEQUENCES)), min_size=1, max_size=4),
    ),
    st.builds(b"".join, st.lists(st.sampled_from(list(SEQUENCES.values())), max_size=4)),
)


def plainly(stream: bytes) -> Read:
    """Read a whole stream with an eye on nothing but PS3.8 Tables 9-22 and 9-23."""
    values: list[tuple[int, int, bytes]] = []
    at = 0
    while at + 6 <= len(stream):
        kind, _, length = struct.unpack_from(">BBL", stream, at)
        if kind != 4:
            return values, stream[at:], False
        if length > MAXIMUM or 0 < length < 6:
            return values, b"", True
        at, end = at + 6, at + 6 + length
        while at < end and at + 6 <= len(stream):
            size, context, control = struct.unpack_from(">LBB", stream, at)
            left = end - at - 4 - size
            if size < 2 or left < 0 or 0 < left < 6:
                return values, b"", True
            content = stream[at + 6 : at + 4 + size]
            at += 4 + size
            if at <= len(stream):
                values.append((context, control, content))
        if at < end:
            break
    return values, b"", False


def by_reader(stream: bytes, cuts: list[int]) -> Read:
    """Read it in pieces."""
    reader, values, current = DataStream(MAXIMUM), [], bytearray()
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    at = 0
    for start, stop in itertools.pairwise(bounds):
        if reader.foreign:
            return values, reader.foreign + stream[start:], False
        try:
            for piece in reader.pieces(memoryview(stream)[start:stop]):
                if piece is None:
                    continue
                current += piece.content
                if piece.ends:
                    values.append((piece.context_id, piece.control, bytes(current)))
                    current.clear()
        except MalformedError:
            return values, b"", True
        at = stop
    return values, reader.foreign + stream[at:], False


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stream=streams, cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_read_as_the_standard_says_wherever_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    assert by_reader(stream, cuts) == plainly(stream)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_a_command_that_is_none_is_left_to_pynetdicom(encoded: bytes) -> None:
    assert read_store(encoded) is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 65_535))
def test_a_mutated_command_is_read_as_pydicom_reads_it_or_not_at_all(seed: int, message_id: int) -> None:
    changed = mutated(random.Random(seed), store_command(b"1.2.3.4", message_id=message_id))
    found = read_store(changed)
    if found is not None:
        assert isinstance(found.message_id, int)
        assert found.sop_class_uid.isascii()
        assert found.sop_instance_uid.isascii()


@settings(max_examples=200, deadline=None)
@given(
    instance=st.from_regex(r"\A[1-9]{1,10}(\.[1-9][0-9]{0,9}){0,4}\Z", fullmatch=True),
    message_id=st.integers(0, 65_535),
    status=st.integers(0, 65_535),
    most=st.sampled_from((0, 7, 8, 16, 100, 16_384, 2**32 - 1)),
)
def test_an_answer_is_what_pynetdicom_understands(instance: str, message_id: int, status: int, most: int) -> None:
    command = StoreCommand(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
        sop_instance_uid=instance,
        message_id=message_id,
        has_originator=False,
    )
    stream, message = store_response(command, 5, status, most), C_STORE_RSP()
    assert not most or all(length <= most for length in _lengths(stream))
    whole = False
    while stream:
        length = 6 + struct.unpack_from(">L", stream, 2)[0]
        pdu = P_DATA_TF()
        pdu.decode(stream[:length])
        whole = message.decode_msg(pdu.to_primitive())
        stream = stream[length:]
    answer = decode(message.encoded_command_set, True, True)
    assert whole
    assert (answer.MessageIDBeingRespondedTo, answer.Status) == (message_id, status)
    assert str(answer.AffectedSOPInstanceUID) == instance


def _lengths(stream: bytes) -> list[int]:
    found, at = [], 0
    while at < len(stream):
        found.append(struct.unpack_from(">L", stream, at + 2)[0])
        at += 6 + found[-1]
    return found
