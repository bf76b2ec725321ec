"""What is looked at before a study closes is what scoring would have found, and nothing is lost where it was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.domain.completeness import Patience
from agent.domain.study import Instance, InstanceHeader, StoredFile
from agent.score.candidates import look_at
from agent.score.score_study import ScoreLimits, score_study
from agent.store.layout import Layout
from agent.tasks import look_ahead
from agent.tasks.look_ahead import LookAhead
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from inference.predictor import Predictor
from tests.support.ultrasound import image, phantom, saved
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture

PATIENCE = Patience(quiet_seconds=30, max_wait_seconds=900)
BUNDLE = Path(__file__).resolve().parents[3] / "inference" / "bundles" / "reference"
VIEWS = ("subcostal", "intercostal", "liver-kidney")
Source = tuple[Instance, Path]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.open(BUNDLE)


class Spool:
    """A study that was received, and a worker that looks ahead."""

    def __init__(self, scene: Scene, folder: Path, predictor: Predictor) -> None:  # noqa: F811
        self.announced: list[float] = []
        self.scene, self.layout = scene, Layout(folder / "var")
        self.sources = [self._received(number, name, folder) for number, name in enumerate(VIEWS, 1)]
        self.ahead = LookAhead(
            ledger=scene.ledger,
            layout=self.layout,
            patience=PATIENCE,
            geometry=predictor.bundle.geometry,
            announce=lambda: self.announced.append(self.scene.now),
            now=lambda: self.scene.now,
        )

    def _received(self, number: int, name: str, folder: Path) -> Source:
        instance, made = saved(image(number, phantom(name).pixels), folder)
        path = self.layout.instance(instance.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.rename(path)
        header = InstanceHeader(
            sop_instance_uid=instance.sop_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            study_instance_uid="1.2",
            series_instance_uid="1.2.8",
            patient_id="P1",
            study_date="20261123",
        )
        stored = StoredFile(
            sha256=instance.sha256,
            bytes=instance.bytes,
            transfer_syntax_uid=instance.transfer_syntax_uid,
            header=header,
        )
        arrivals.record_instance(
            self.scene.ledger, stored, association_id=None, group_by=GroupBy.STUDY, now=self.scene.now
        )
        return instance, path


@pytest.fixture
def spool(scene: Scene, tmp_path: Path, predictor: Predictor) -> Spool:  # noqa: F811
    return Spool(scene, tmp_path, predictor)


def taken(spool: Spool, predictor: Predictor) -> int:
    found = [spool.ahead.take(instance, predictor.bundle.geometry) for instance, _ in spool.sources]
    return sum(one is not None for one in found)


def test_a_study_is_looked_at_shortly_before_it_closes_and_not_before(spool: Spool, predictor: Predictor) -> None:
    spool.scene.now += PATIENCE.quiet_seconds - 2 * look_ahead.SOON_SECONDS
    spool.ahead.once(())
    assert taken(spool, predictor) == 0
    spool.scene.now += 1.5 * look_ahead.SOON_SECONDS
    spool.ahead.once(())
    assert taken(spool, predictor) == 3
    assert taken(spool, predictor) == 0, "each is given once"


def test_delivery_is_told_once_and_only_of_what_will_be_scored(spool: Spool) -> None:
    spool.scene.now += PATIENCE.quiet_seconds - 2 * look_ahead.SOON_SECONDS
    spool.ahead.once(())
    assert spool.announced == []
    spool.scene.now += 1.5 * look_ahead.SOON_SECONDS
    for _ in range(3):
        spool.ahead.once(())
    assert spool.announced == [spool.scene.now]


def test_the_score_is_the_same_and_nothing_is_decoded_for_it(spool: Spool, predictor: Predictor) -> None:
    limits = ScoreLimits(min_views=1, max_views=6)
    expected, pictures = score_study(spool.sources, predictor, limits)
    spool.scene.now += PATIENCE.quiet_seconds - 0.5
    spool.ahead.once(())
    for _, path in spool.sources:
        path.write_bytes(b"not looked at again")
    outcome, others = score_study(spool.sources, predictor, limits, spool.ahead.take)
    assert outcome == expected
    for one, other in zip(pictures, others, strict=True):
        np.testing.assert_array_equal(one.source, other.source)
        np.testing.assert_array_equal(one.saliency, other.saliency)


def test_a_step_at_hand_has_the_processor_to_itself(spool: Spool, predictor: Predictor) -> None:
    spool.scene.now += PATIENCE.quiet_seconds - 0.5
    spool.ahead.once({7})
    assert taken(spool, predictor) == 0


def test_what_cannot_be_read_is_left_to_the_score_step(spool: Spool, predictor: Predictor) -> None:
    spool.sources[0][1].unlink()
    spool.sources[1][1].write_bytes(b"no image")
    spool.scene.now += PATIENCE.quiet_seconds - 0.5
    spool.ahead.once(())
    assert taken(spool, predictor) == 1


def test_a_bundle_that_takes_other_pictures_is_given_none_of_these(spool: Spool, predictor: Predictor) -> None:
    spool.scene.now += PATIENCE.quiet_seconds - 0.5
    spool.ahead.once(())
    other = replace(predictor.bundle.geometry, width=predictor.bundle.geometry.width + 32)
    assert [spool.ahead.take(instance, other) for instance, _ in spool.sources] == [None] * 3


def test_memory_is_bounded(spool: Spool, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    instance, path = spool.sources[0]
    one = look_at(instance, path, predictor.bundle.geometry)
    monkeypatch.setattr(look_ahead, "_MOST_BYTES", int(1.5 * look_ahead._size(one)))
    spool.scene.now += PATIENCE.quiet_seconds - 0.5
    spool.ahead.once(())
    assert taken(spool, predictor) == 1


def test_a_study_of_many_instances_is_not_looked_at(
    spool: Spool, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_ahead, "_MOST_INSTANCES", 2)
    spool.scene.now += PATIENCE.quiet_seconds - 0.5
    spool.ahead.once(())
    assert taken(spool, predictor) == 0
