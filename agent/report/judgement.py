"""What may be said of an outcome in words: how it changed, and which views were not used and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.domain.score import ScoreOutcome, ViewUse


class Verdict(StrEnum):
    """What a change since an earlier result may be called."""

    WITHIN = "within measurement variation"
    BEYOND = "beyond measurement variation"
    UNJUDGED = "not judged, the model's repeatability is not measured"


@dataclass(frozen=True, kw_only=True)
class Change:
    """The fat fraction against the patient's earlier one by the same bundle."""

    day: str
    """YYYY-MM-DD of the earlier study."""
    grade: str
    before: float
    """Percent."""
    points: float
    """Percent points; positive is more fat."""
    repeatability: float | None
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        against = "" if self.repeatability is None else f" ({self.repeatability:.1f} points)"
        return (
            f"{self.day} {self.grade}, {self.before:.1f} %; change {self.points:+.1f} points, {self.verdict}{against}"
        )

    @property
    def line(self) -> str:
        """The comparison on one line of the summary."""
        against = "" if self.repeatability is None else f" ({self.repeatability:.1f})"
        return (
            f"{self.day}: {self.grade} {self.before:.1f} %; {self.points:+.1f} points, {_BRIEF[self.verdict]}{against}"
        )


_BRIEF: Final = {
    Verdict.WITHIN: "within variation",
    Verdict.BEYOND: "beyond variation",
    Verdict.UNJUDGED: "not judged",
}


def change_since_earlier(outcome: ScoreOutcome) -> Change | None:
    """Compare with the earlier result; a change is real only beyond the model's own measured repeatability."""
    score, earlier = outcome.score, outcome.earlier
    if score is None or earlier is None:
        return None
    points = round(score.fat_fraction_percent - earlier.fat_fraction_percent, 2)
    limit = score.repeatability
    verdict = Verdict.UNJUDGED if limit is None else Verdict.BEYOND if abs(points) > limit else Verdict.WITHIN
    date = earlier.study_date
    return Change(
        day=f"{date[:4]}-{date[4:6]}-{date[6:]}",
        grade=earlier.grade,
        before=earlier.fat_fraction_percent,
        points=points,
        repeatability=limit,
        verdict=verdict,
    )


def reasons_not_used(views: Sequence[ViewUse]) -> list[tuple[str, int]]:
    """Count the entries that were not used by reason, the commonest first."""
    counted = Counter(view.reason or "no reason given" for view in views if not view.used)
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def used_views(views: Sequence[ViewUse]) -> tuple[ViewUse, ...]:
    """Entries that were used, in their order."""
    return tuple(view for view in views if view.used)
