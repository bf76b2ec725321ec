"""What a run goes on from is whole or not there, and a full disk is said in a sentence."""

import resource
from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.cohort.manifest import Frame  # noqa: E402
from training.keeping import NotKeptError, mapped, whole  # noqa: E402
from training.members.features import front_features  # noqa: E402
from training.members.fit import read_member  # noqa: E402
from training.members.trunk import Lite0  # noqa: E402
from training.systems.configuration import read_system  # noqa: E402
from training.systems.fit import _resume, _write  # noqa: E402
from training.systems.runtime import Runtime  # noqa: E402


@contextmanager
def room_for(size):
    """No file grows beyond that many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_has_no_room_leaves_the_last_one(tmp_path):
    path, where = tmp_path / "last.pt", Runtime(device=torch.device("cpu"))
    _write(where, {"epoch": torch.zeros(1)}, path)
    with room_for(100_000), pytest.raises(NotKeptError, match=r"last\.pt cannot be written, as where a disk is full"):
        _write(where, {"epoch": torch.ones(1_000_000)}, path)
    assert torch.load(path, weights_only=True)["epoch"] == 0
    assert [one.name for one in tmp_path.iterdir()] == ["last.pt"]


def test_an_array_that_has_no_room(tmp_path):
    with room_for(1000), pytest.raises(NotKeptError, match="make room there"), whole(tmp_path / "a.npy") as partial:
        np.save(partial, np.zeros(100_000))
    assert not list(tmp_path.iterdir())


def test_room_of_a_fronts_output_is_taken_before_it_is_filled(tmp_path):
    """A file with holes would end the process by a signal on a full disk."""
    array = mapped(tmp_path / "m.npy", (64, 1024))
    array[:] = 1
    assert (tmp_path / "m.npy").stat().st_blocks * 512 >= 64 * 1024 * 2
    with room_for(1000), pytest.raises(NotKeptError, match=r"front\.npy cannot be written"):
        front_features(Lite0(), 5, np.zeros((4, 3, 64, 64), np.float16), tmp_path / "front.npy")
    assert not (tmp_path / "front.npy").exists()
    assert not (tmp_path / "front.done").exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"PK\3\4 cut off"])
def test_what_a_power_cut_left_is_named(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    experiment = read_system("baseline", "tiny")
    with pytest.raises(ValueError, match=r"last\.pt is damaged; remove it, and what it held is made anew"):
        _resume(None, experiment, path, Runtime(device=torch.device("cpu")))
    with pytest.raises(ValueError, match=r"last\.pt is damaged"):
        read_member(path)
    with pytest.raises(FileNotFoundError):
        read_member(tmp_path / "none.pt")


def test_reading_a_cohort_says_how_far_it_is(tmp_path, capsys):
    from PIL import Image

    from training.cohort import examples

    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    frame = Frame(patient="p", study="s", file=tmp_path / "a.png", grade=1, label_source="reader")
    many = [frame.model_copy(update={"study": str(number)}) for number in range(examples.TOLD_EVERY)]
    with pytest.raises(ValueError, match="There is no study"):
        examples.read_examples(many, 32)
    assert "50 of 50 studies read" in capsys.readouterr().out
