"""Files sent to our own listener: by the command, and as uploads of the page, over real associations."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from pydicom import dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from starlette.testclient import TestClient

from agent.domain.errors import ArchiveError, ArchiveRefusedError
from agent.domain.identifiers import Archive, Peer
from agent.serve.commands.pushing import own_listener, push_file, push_paths
from agent.settings import Settings, load_settings
from agent.web.uploads import Inlet
from tests.unit.receive.reception import STUDY, Reception, instance
from tests.unit.web.conftest import Acts, MakeClient, acts, client, scene  # noqa: F401 - fixtures
from tests.unit.web.test_web import TOKEN

OTHER = "1.2.826.0.1.3680043.8.498.78"


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    with Reception(tmp_path / "listener") as listening:
        yield listening


def settings_for(port: int) -> Settings:
    return load_settings(None, {"AGENT_DICOM__PORT": str(port)})


def saved(folder: Path, number: int, **elements: Any) -> Path:
    ds = instance(number, **elements)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def test_a_folder_goes_over_and_is_counted_by_study(reception: Reception, tmp_path: Path) -> None:
    folder = tmp_path / "disc"
    for number in (1, 2):
        saved(folder / "a", number)
    saved(folder / "b", 3, StudyInstanceUID=OTHER)
    (folder / "README.TXT").write_text("not DICOM")
    told: list[str] = []
    settings = settings_for(reception.port)
    counts = push_paths(settings, own_listener(settings), [folder], told.append)
    assert sorted(counts, key=str) == [
        {"study_instance_uid": STUDY, "stored": 2, "refused": 0},
        {"study_instance_uid": OTHER, "stored": 1, "refused": 0},
    ]
    assert len(reception.stored()) == 3
    (line,) = told
    assert "README.TXT: not sent" in line


def test_what_the_listener_refuses_is_counted_and_the_rest_goes_over(reception: Reception, tmp_path: Path) -> None:
    saved(tmp_path / "disc", 1, sop_class="1.2.3.4")
    saved(tmp_path / "disc", 2)
    told: list[str] = []
    settings = settings_for(reception.port)
    (count,) = push_paths(settings, own_listener(settings), [tmp_path / "disc"], told.append)
    assert (count["stored"], count["refused"]) == (1, 1)
    assert "does not accept 1.2.3.4" in told[0]


def test_no_listener_is_said_with_its_address(tmp_path: Path, free_port: Callable[[], int]) -> None:
    settings = settings_for(free_port())
    with pytest.raises(ArchiveError, match=r"connection refused by STEATOSIS@127\.0\.0\.1"):
        push_paths(settings, own_listener(settings), [saved(tmp_path, 1)], print)


def test_a_listener_that_knows_its_callers_says_that_it_does_not_know_us(tmp_path: Path) -> None:
    with Reception(tmp_path / "listener", peers=(Peer(ae_title="US1", host="127.0.0.1"),)) as listening:
        settings = settings_for(listening.port)
        with pytest.raises(ArchiveRefusedError, match="calling AE title"):
            push_paths(settings, own_listener(settings), [saved(tmp_path, 1)], print)


@pytest.mark.parametrize(("host", "called"), [("0.0.0.0", "127.0.0.1"), ("10.0.0.7", "10.0.0.7")])
def test_our_own_listener_is_called_where_it_can_be(host: str, called: str) -> None:
    settings = load_settings(None, {"AGENT_DICOM__HOST": host, "AGENT_DICOM__PEERS": '["US1@10.0.0.9"]'})
    assert own_listener(settings) == Archive(ae_title="STEATOSIS", host=called, port=11112)


@pytest.fixture
def uploader(reception: Reception, tmp_path: Path, client: MakeClient) -> Callable[..., TestClient]:  # noqa: F811
    settings = settings_for(reception.port)
    folder = tmp_path / "incoming"
    folder.mkdir()

    def make(port: int | None = None, **limits: float) -> TestClient:
        to = Archive(ae_title="STEATOSIS", host="127.0.0.1", port=port or reception.port)
        given = {"max_bytes": 1_000_000, "least_free_bytes": 0} | limits
        inlet = Inlet(folder=folder, push=partial(push_file, settings, to), **given)  # type: ignore[arg-type]
        made = client(token=TOKEN, inlet=inlet)
        made.headers["Authorization"] = f"Bearer {TOKEN}"
        return made

    return make


def test_an_upload_is_stored_and_audited(
    uploader: Callable[..., TestClient],
    reception: Reception,
    tmp_path: Path,
    acts: Acts,  # noqa: F811
) -> None:
    answer = uploader().post("/upload", content=saved(tmp_path, 1).read_bytes())
    assert (answer.status_code, answer.json()) == (200, {"study_instance_uid": STUDY})
    assert len(reception.stored()) == 1
    assert list((tmp_path / "incoming").iterdir()) == []
    assert [(action, study) for action, study, _, _ in acts.noted] == [("upload", STUDY)]


@pytest.mark.parametrize(
    ("content", "limits", "status", "words"),
    [
        (b"%PDF-1.7 a letter", {}, 415, "no DICOM object"),
        (None, {"max_bytes": 200}, 413, "dicom.max_object_gb"),
        (None, {"least_free_bytes": 1e18}, 507, "min_free_gb"),
        (None, {"port": 1}, 502, "connection refused"),
    ],
)
def test_what_is_not_taken_says_why_and_leaves_nothing(
    uploader: Callable[..., TestClient],
    reception: Reception,
    tmp_path: Path,
    acts: Acts,  # noqa: F811
    content: bytes | None,
    limits: dict[str, float],
    status: int,
    words: str,
) -> None:
    answer = uploader(**limits).post("/upload", content=content or saved(tmp_path, 1).read_bytes())
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert reception.stored() == []
    assert list((tmp_path / "incoming").iterdir()) == []
    assert acts.noted == []


@pytest.mark.parametrize(
    ("fails", "status", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "No space left on device: make room"),
        (None, 507, "No space left on device: make room"),
        (OSError(errno.EROFS, "Read-only file system"), 500, "Read-only file system: see to the disk"),
    ],
    ids=["at the beginning", "at the end", "read-only"],
)
def test_a_disk_that_takes_nothing_is_told_in_a_sentence(
    uploader: Callable[..., TestClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: OSError | None,
    status: int,
    words: str,
) -> None:
    def opened(**_named: str) -> IO[bytes]:
        if fails is not None:
            raise fails
        return Path("/dev/full").open("wb")  # it takes what is written, and then has no room: to close it fails, too

    content = saved(tmp_path, 1).read_bytes()
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", opened)
    answer = uploader().post("/upload", content=content)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_listener_without_room_is_told_as_a_full_disk(
    uploader: Callable[..., TestClient], reception: Reception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception.files, "_min_free_bytes", 1 << 62)
    answer = uploader().post("/upload", content=saved(tmp_path, 1, size=100_000).read_bytes())
    assert answer.status_code == 507
    assert "answered C-STORE with A700: refused: out of resources: make room" in answer.json()["error"]


def test_a_class_that_is_not_stored_is_refused_with_the_reason(
    uploader: Callable[..., TestClient], tmp_path: Path
) -> None:
    answer = uploader().post("/upload", content=saved(tmp_path, 1, sop_class="1.2.3.4").read_bytes())
    assert answer.status_code == 422
    assert "does not accept" in answer.json()["error"]


def test_nobody_else_uploads(client: MakeClient, uploader: Callable[..., TestClient], tmp_path: Path) -> None:  # noqa: F811
    content = saved(tmp_path, 1).read_bytes()
    assert client().post("/upload", content=content).status_code == 403  # no token is set
    assert client(token=TOKEN).post("/upload", content=content).status_code == 401
    browser = uploader()
    del browser.headers["Authorization"]
    browser.post("/login", content=f"token={TOKEN}", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert "Upload a study" in browser.get("/upload").text
    assert browser.post("/upload", content=content).status_code == 403  # another site's page has no form token
