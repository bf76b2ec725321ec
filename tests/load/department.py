"""A department of ultrasound machines over a day, compressed: who sends what when, over real associations.

    python -m tests.load.department HOST PORT --compression 180

drives any agent (AE title STEATOSIS); `test_department.py` does so beside an archive and looks at everything. Exams
come as a Poisson process whose rate follows the hour of the day. What a machine does wrong on an ordinary day is in it:
studies sent twice, an image that comes late, a connection that breaks and is begun again, exams of something else.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from agent.demo.patients import make_study
from tests.support.many_studies import another
from training.phantom import render_negative

DAY_BEGINS: Final = 7
"""O'clock: the rush comes first, so that whatever grows has the rest of the day to show it."""
_DAYTIME: Final = (0, 0, 0, 0, 0, 0, 0, 2, 6, 9, 10, 9, 5, 6, 9, 8, 6, 3, 1, 0, 0, 0, 0, 0)
_EMERGENCY: Final = (3, 3, 2, 2, 2, 2, 3, 4, 5, 6, 6, 6, 5, 5, 6, 6, 6, 6, 6, 6, 5, 5, 4, 3)
_WARD: Final = (1, 1, 1, 1, 1, 1, 2, 4, 6, 6, 5, 4, 3, 4, 5, 5, 4, 3, 2, 2, 1, 1, 1, 1)
"""Exams by hour of the day from midnight, in relation to each other."""
_DRAWN: Final = 12
_IMAGE_GAP_SECONDS: Final = 40.0
"""Simulated, between two images of a machine that sends each when it is taken."""
_LATE_SECONDS: Final = 1_800.0
"""Simulated, until a forgotten image follows."""
_MOST_TRIES: Final = 20


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A kind of machine.

    Parameters
    ----------
    at_once
        It sends an exam over one association when it ends; else every image over one of its own, when it is taken.
    other_share
        Share of exams that show no liver.
    """

    name: str
    exams_a_day: float
    hours: tuple[int, ...]
    images: tuple[int, int]
    at_once: bool
    other_share: float


PROFILES: Final = (
    Profile(name="ABD", exams_a_day=16, hours=_DAYTIME, images=(2, 3), at_once=True, other_share=0.05),
    Profile(name="GEN", exams_a_day=14, hours=_DAYTIME, images=(1, 3), at_once=False, other_share=0.25),
    Profile(name="ER", exams_a_day=14, hours=_EMERGENCY, images=(1, 2), at_once=True, other_share=0.35),
    Profile(name="WARD", exams_a_day=6, hours=_WARD, images=(1, 2), at_once=False, other_share=0.2),
)
_OF_TWENTY: Final = (8, 6, 3, 3)
"""Machines of each kind among twenty."""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """One exam of one machine; `at` in simulated seconds from the day's beginning."""

    name: str
    ae_title: str
    at: float
    images: int
    at_once: bool
    of_liver: bool
    sent_twice: bool
    one_late: bool
    breaks: bool
    """The first connection is aborted half way."""


@dataclass(kw_only=True)
class Sent:
    """What became of an exam on its way out."""

    study_instance_uid: str
    exam: Exam
    instances: list[str] = field(default_factory=list)
    """SOP Instance UIDs that were answered with Success."""
    answered_at: float = 0.0
    """Of the last image of the first sending, by this machine's clock."""
    late_at: float | None = None
    """Of the image that was forgotten."""
    delay: float = 0.0
    """Seconds that the sending began after its time: what the generator itself was late."""
    tries: int = 0


def machines(count: int) -> list[tuple[str, Profile]]:
    """Name machines and their kinds, in the shares of twenty."""
    kinds = [profile for profile, share in zip(PROFILES, _OF_TWENTY, strict=True) for _ in range(share)]
    return [(f"US{number + 1:02d}-{kinds[number % 20].name}", kinds[number % 20]) for number in range(count)]


def day_of(ae_title: str, profile: Profile, rng: np.random.Generator, hours: float) -> list[Exam]:
    """Draw a machine's exams: a Poisson process with the rate of each hour."""
    exams = []
    for hour in range(int(np.ceil(hours))):
        rate = profile.exams_a_day * profile.hours[(DAY_BEGINS + hour) % 24] / sum(profile.hours)
        for at in rng.uniform(hour, hour + 1, rng.poisson(rate)):
            exams.append(_exam(f"{ae_title}-{len(exams)}", ae_title, float(at) * 3600.0, profile, rng))
    return sorted((exam for exam in exams if exam.at < hours * 3600), key=lambda exam: exam.at)


def _exam(name: str, ae_title: str, at: float, profile: Profile, rng: np.random.Generator) -> Exam:
    images = int(rng.integers(profile.images[0], profile.images[1] + 1))
    liver = bool(rng.random() >= profile.other_share)
    odd = rng.random(3)
    return Exam(
        name=name,
        ae_title=ae_title,
        at=at,
        images=images,
        at_once=profile.at_once,
        of_liver=liver,
        sent_twice=bool(odd[0] < 0.05),
        one_late=bool(odd[1] < 0.04 and images > 1),
        breaks=bool(odd[2] < 0.04),
    )


class Department:
    """Machines that send a day's exams, each in a thread of its own."""

    def __init__(self, host: str, port: int, *, count: int, compression: float, hours: float, seed: int) -> None:
        self.host, self.port, self.compression, self.hours = host, port, compression, hours
        rng = np.random.default_rng(seed)
        self.days = {name: day_of(name, profile, rng, hours) for name, profile in machines(count)}
        when = datetime(2026, 11, 23, DAY_BEGINS, 0, tzinfo=UTC)
        self._livers = [make_study(number, seed=seed, when=when).instances for number in range(1, _DRAWN + 1)]
        self._others = [_of_something_else(drawn, rng) for drawn in self._livers[:4]]
        self._started = 0.0
        self.sent: list[Sent] = []
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()

    @property
    def exams(self) -> int:
        return sum(map(len, self.days.values()))

    def simulated_hour(self, moment: float) -> float:
        """Hours since the day's beginning, of a moment by this machine's clock."""
        return (moment - self._started) * self.compression / 3600.0

    def run(self) -> None:
        """Send the whole day; returns when its last hour is over."""
        self._started = time.time()
        threads = [threading.Thread(target=self._work, args=(exams,), name=name) for name, exams in self.days.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._wait_for(self.hours * 3600.0)

    def _wait_for(self, at: float) -> float:
        """Wait for a simulated moment; returns by how many real seconds it was missed."""
        left = self._started + at / self.compression - time.time()
        if left > 0:
            time.sleep(left)
        return max(0.0, -left)

    def _work(self, exams: list[Exam]) -> None:
        for exam in exams:
            delay = self._wait_for(exam.at)
            try:
                self._do(exam, delay)
            except (OSError, RuntimeError) as error:
                self.faults.append(f"{exam.name}: {error}")

    def _do(self, exam: Exam, delay: float) -> None:
        drawn = self._livers if exam.of_liver else self._others
        order = sum(exam.name.encode())
        uid, instances = another(drawn[order % len(drawn)], exam.name, views=exam.images)
        sent = Sent(study_instance_uid=uid, exam=exam, delay=delay)
        self.sent.append(sent)
        prompt = instances[:-1] if exam.one_late else instances
        if exam.breaks:
            self._break_off(exam, prompt[0])
        if exam.at_once:
            self._push(sent, prompt)
        else:
            for number, ds in enumerate(prompt):
                if number:
                    time.sleep(_IMAGE_GAP_SECONDS / self.compression)
                self._push(sent, [ds])
        sent.answered_at = time.time()
        if exam.one_late:
            time.sleep(max(_LATE_SECONDS / self.compression, 3.0))
            self._push(sent, instances[-1:])
            sent.late_at = time.time()
        if exam.sent_twice:
            self._push(sent, prompt)
            self.seen["sent twice"] += 1

    def _push(self, sent: Sent, instances: Sequence[Dataset]) -> None:
        """Send what is not acknowledged yet, again and again, as machines do."""
        left = list(instances)
        for _ in range(_MOST_TRIES):
            sent.tries += 1
            with self._associated(sent.exam.ae_title, left) as association:
                while association is not None and left:
                    status = association.send_c_store(left[0]).get("Status")
                    self.seen[f"status {'none' if status is None else f'{status:04X}'}"] += 1
                    if status != 0:
                        break
                    sent.instances.append(str(left.pop(0).SOPInstanceUID))
            if not left:
                return
            time.sleep(0.5)
        raise RuntimeError(f"{len(left)} images not acknowledged after {_MOST_TRIES} tries")

    def _break_off(self, exam: Exam, ds: Dataset) -> None:
        """Associate, store one image of which nobody notes the answer, and abort."""
        with self._associated(exam.ae_title, [ds]) as association:
            if association is not None:
                association.send_c_store(ds)
                association.abort()
        self.seen["broken off"] += 1

    @contextlib.contextmanager
    def _associated(self, ae_title: str, instances: Sequence[Dataset]) -> Iterator[Association | None]:
        ae = AE(ae_title=ae_title)
        for key in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in instances}:
            ae.add_requested_context(*key)
        association = ae.associate(self.host, self.port, ae_title="STEATOSIS")
        self.seen["associations" if association.is_established else "refused"] += 1
        try:
            yield association if association.is_established else None
        finally:
            if association.is_established:
                association.release()


def _of_something_else(drawn: Sequence[Dataset], rng: np.random.Generator) -> list[Dataset]:
    """Put kidneys, hearts and bladders where the livers were, in single images."""
    made = []
    for ds, kind in zip(drawn[:2], itertools.cycle(("cardiac", "bladder")), strict=False):
        ds = copy.deepcopy(ds)
        pixels = render_negative(kind, rng, rows=ds.Rows, columns=ds.Columns)
        ds.PixelData, ds.SeriesDescription, ds.BodyPartExamined = pixels.tobytes(), kind, ""
        made.append(ds)
    return [*made, copy.deepcopy(made[0])]


def main() -> None:
    """Drive an agent from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--machines", type=int, default=20)
    parser.add_argument("--hours", type=float, default=24.0, help="simulated")
    parser.add_argument("--compression", type=float, default=180.0, help="simulated seconds a second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    department = Department(
        given.host, given.port, count=given.machines, compression=given.compression, hours=given.hours, seed=given.seed
    )
    print(f"{department.exams} exams in {given.hours * 3600 / given.compression:.0f} s")
    department.run()
    print(f"{len(department.sent)} exams sent; {dict(department.seen)}; faults: {department.faults or 'none'}")


if __name__ == "__main__":
    main()
