"""What is kept of every scored study to watch the model by: a few figures, which scanner made it, where it came from.

No patient data: scanner and site are names of things, figures are numbers and coded words.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa

from agent.domain.errors import RequestorError
from agent.domain.score import ScoreOutcome
from agent.domain.study import Instance, InstanceHeader
from agent.domain.work_item import WorkItem
from agent.store.header import read_header
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from inference.figures import study_figures
from inference.reference import Value

SiteBy = Literal["calling-ae", "institution", "institution-hash"]
SCORED: Final = "scored"
INPUTS: Final = ("brightness", "contrast", "depth_ratio", "quality", "liver_logit", "views", "frames", "outcome")
OUTPUTS: Final = ("grade", "fat_fraction", "member_spread")
FIGURES: Final = (*INPUTS, *OUTPUTS)
"""By these the model is watched."""
_UNKNOWN: Final = "unknown"
_RETRIEVED: Final = "from the archive"
_LONGEST: Final = 64


def figures_of(outcome: ScoreOutcome) -> dict[str, Value]:
    """Figures of one outcome, by name; those of pictures are means over the used views.

    A refused study has `outcome` and `frames` alone: nothing of it was used.
    """
    looked = sum(1 for view in outcome.views if view.frame is not None)
    found: dict[str, Value] = {"outcome": SCORED, "frames": _power_of_two(looked)}
    score = outcome.score
    if score is None:
        return found | {"outcome": str(outcome.refusal)}
    used = [view for view in outcome.views if view.used]
    found |= study_figures([view.figures or {} for view in used])
    return found | {
        "grade": score.grade,
        "fat_fraction": score.fat_fraction_percent,
        "member_spread": score.member_spread,
    }


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Keeps the figures of each scored study.

    Parameters
    ----------
    site_by
        What tells sites apart: who sent the study, or the Institution Name (0008,0080), plain or hashed.
    secret
        The installation's own: key of that hash.
    """

    ledger: Ledger
    site_by: SiteBy
    secret: Callable[[], bytes]

    def keep(self, item: WorkItem, outcome: ScoreOutcome, sources: Sequence[tuple[Instance, Path]], now: float) -> None:
        """Keep the figures of a study, in the place of those of an earlier score by the same bundle.

        Doing it twice changes nothing, so it may stand before the score is kept and be repeated after a crash.

        Raises
        ------
        LedgerError
            The ledger is away.
        """
        header = _header(_image(outcome, sources))
        with self.ledger.read() as connection:
            at, sender = _arrival(connection, item.id)
        values = {
            "study_instance_uid": item.study_instance_uid,
            "result_key": item.result_key,
            "at": now if at is None else at,
            "scanner": scanner_of(header),
            "site": self._site(header, sender),
            "accepted": outcome.score is not None,
            "figures": json.dumps(figures_of(outcome), sort_keys=True),
        }
        same = {"of_group": item.group_id, "of_bundle": outcome.model.digest}
        with self.ledger.write() as connection:
            if connection.execute(_AGAIN, same | values).rowcount == 0:
                key = {"group_id": item.group_id, "bundle_digest": outcome.model.digest}
                connection.execute(_FIRST, key | values)

    def _site(self, header: InstanceHeader | None, sender: str | None) -> str:
        if self.site_by == "calling-ae":
            return named(sender or "") if sender else _RETRIEVED
        institution = named("" if header is None else header.institution_name)
        if self.site_by == "institution" or institution == _UNKNOWN:
            return institution
        return "site-" + hmac.new(self.secret(), b"site\0" + institution.encode(), hashlib.sha256).hexdigest()[:8]


def scanner_of(header: InstanceHeader | None) -> str:
    """Name a scanner: Manufacturer's Model Name and Station Name, with the Manufacturer where the model lacks it."""
    if header is None:
        return _UNKNOWN
    maker, model, station = (
        " ".join(text.split()) for text in (header.manufacturer, header.manufacturer_model_name, header.station_name)
    )
    if maker and not model.lower().startswith(maker.lower().split()[0]):
        model = f"{maker} {model}".strip()
    return named(f"{model} · {station}" if station else model)


def named(text: str) -> str:
    """Make a short label of what a peer wrote: one line, printable."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(plain.split())[:_LONGEST].strip() or _UNKNOWN


def _image(outcome: ScoreOutcome, sources: Sequence[tuple[Instance, Path]]) -> Path | None:
    """Choose the image that is asked for the scanner: one that was used, if any was."""
    used = {view.sop_instance_uid for view in outcome.views if view.used}
    images = [
        (one.sop_instance_uid not in used, one.sop_instance_uid, path) for one, path in sources if one.may_be_scored
    ]
    return min(images)[2] if images else None


def _header(path: Path | None) -> InstanceHeader | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return read_header(file)[0]
    except (OSError, RequestorError):
        return None


def _arrival(connection: sa.Connection, work_item_id: int) -> tuple[float | None, str | None]:
    """When the study's first instance came, and who sent it; None where it was only retrieved."""
    row = connection.execute(_ARRIVAL, {"item": work_item_id}).first()
    return (None, None) if row is None else (row.received_at, row.calling_ae_title)


def _power_of_two(count: int) -> str:
    """Say how many in classes that double: 0, 1, 2-3, 4-7 and so on."""
    if count < 2:
        return str(count)
    low = 1 << (count.bit_length() - 1)
    return f"{low}-{2 * low - 1}"


_O: Final = t.observations.c
_ARRIVAL: Final = (
    sa.select(t.instances.c.received_at, t.associations.c.calling_ae_title)
    .join(t.work_item_instances, t.work_item_instances.c.instance_id == t.instances.c.id)
    .outerjoin(t.associations, t.associations.c.id == t.instances.c.association_id)
    .where(t.work_item_instances.c.work_item_id == sa.bindparam("item"), t.instances.c.received_at.is_not(None))
    .order_by(t.instances.c.received_at, t.instances.c.id)
    .limit(1)
)
_AGAIN: Final = (
    sa.update(t.observations)
    .where(_O.group_id == sa.bindparam("of_group"), _O.bundle_digest == sa.bindparam("of_bundle"))
    .values(
        {
            name: sa.bindparam(name)
            for name in ("study_instance_uid", "result_key", "at", "scanner", "site", "accepted", "figures")
        }
    )
)
_FIRST: Final = sa.insert(t.observations)
"""Built once: to build a statement takes SQLAlchemy longer than to run it."""
