"""What scoring a study yields: a score or a coded refusal, and for every frame looked at why it was used or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

GRADES: Final = ("S0", "S1", "S2", "S3")


class Refusal(StrEnum):
    """Why a study has no score. The value is the coded reason of the CANCELED work item."""

    NO_ULTRASOUND_IMAGE = "no-ultrasound-image"
    NO_USABLE_VIEW = "no-usable-view"
    NOT_LIVER = "not-liver"
    TOO_FEW_VIEWS = "too-few-views"
    UNDECODABLE = "undecodable"


REFUSAL_MEANINGS: Final = {
    Refusal.NO_ULTRASOUND_IMAGE: "the study holds no ultrasound image",
    Refusal.NO_USABLE_VIEW: "no frame shows a B-mode tissue region that can be scored",
    Refusal.NOT_LIVER: "no frame looks like liver B-mode",
    Refusal.TOO_FEW_VIEWS: "fewer usable views than this site requires",
    Refusal.UNDECODABLE: "no image of the study could be decoded",
}


class Quality(StrEnum):
    """Image quality for the task (RADLEX RID12 to RID14)."""

    DIAGNOSTIC = "diagnostic"
    LIMITED = "limited"
    NON_DIAGNOSTIC = "non-diagnostic"


@dataclass(frozen=True, kw_only=True)
class ViewUse:
    """One frame that was looked at, or an instance of which no frame could be."""

    sop_instance_uid: str
    frame: int | None
    """1-based, as DICOM counts; None where no frame was looked at."""
    view: str | None
    """One of `inference.contract.VIEWS`; None where unknown."""
    used: bool
    reason: str | None
    """Why it was not used; None if it was."""
    weight: float | None = None
    """Attention of the fusion, 0 to 1; over the used frames they sum to 1."""
    view_probability: float | None = None
    quality: float | None = None
    """0 (useless) to 1."""
    probabilities: dict[str, float] | None = None
    """Grade probabilities of this view scored alone."""
    figures: dict[str, float] | None = None
    """What the model is watched by: `inference.figures` of the picture, and `liver_logit`, how much like the liver
    B-mode of training it looks."""


@dataclass(frozen=True, kw_only=True)
class StudyScore:
    """The ensemble's calibrated estimate for one study."""

    grade: str
    probabilities: dict[str, float]
    steatosis_probability: float
    """Probability of grade S1 or higher."""
    fat_fraction_percent: float
    fat_fraction_interval: tuple[float, float]
    interval_coverage: float
    """Nominal coverage of the interval and of the grade set, e.g. 0.9."""
    grade_set: tuple[str, ...]
    """Conformal set of grades at that coverage."""
    certainty: float
    """Probability of the stated grade."""
    member_spread: float
    """Standard deviation over the members of the steatosis probability."""
    fat_fraction_spread: float
    """Standard deviation over the members of the fat fraction, percent points."""
    quality: Quality
    limits: tuple[str, ...] = ()
    """Why the result is limited, one phrase each: fewer views than the model was made for, poor images."""
    cut_offs: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Fat-fraction cut-offs of S1, S2, S3 in percent, from the bundle."""
    cut_offs_source: str = ""
    repeatability: float | None = None
    """Percent points of fat fraction: 2.77 x the within-subject standard deviation (QIBA's repeatability coefficient);
    None where the bundle's training did not measure it, and then no change may be called real."""


@dataclass(frozen=True, kw_only=True)
class EarlierResult:
    """The patient's last reported score by the same bundle, from an earlier study."""

    study_instance_uid: str
    study_date: str
    """YYYYMMDD, as the source states it."""
    grade: str
    fat_fraction_percent: float


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model scored, and with what."""

    name: str
    version: str
    digest: str
    """sha256 of the bundle, hexadecimal."""
    backend: str
    precision: str = "fp32"
    expected_views: int = 3


@dataclass(frozen=True, kw_only=True)
class ScoreOutcome:
    """Everything the report says of one study. Exactly one of `score` and `refusal` is set."""

    score: StudyScore | None
    refusal: Refusal | None
    views: tuple[ViewUse, ...]
    model: ModelIdentity
    expected_views: int = 3
    detail: str = ""
    """More about a refusal, without patient data."""
    synthetic: bool = False
    """The sources carry SyntheticData (0008,001C) YES."""
    earlier: EarlierResult | None = None
    """Fixed when the score is kept, so that a report built again compares with the same one."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_dict` makes an equal outcome."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScoreOutcome:
        """Rebuild an outcome from `as_dict` after a round trip through JSON."""
        score, earlier = values["score"], values.get("earlier")
        return cls(
            **{
                **values,
                "score": None if score is None else score_from(score),
                "refusal": None if values["refusal"] is None else Refusal(values["refusal"]),
                "views": tuple(ViewUse(**view) for view in values["views"]),
                "model": ModelIdentity(**values["model"]),
                "earlier": None if earlier is None else EarlierResult(**earlier),
            }
        )


def score_from(values: dict[str, Any]) -> StudyScore:
    """Rebuild a score from its plain values after a round trip through JSON."""
    low, high = values["fat_fraction_interval"]
    first, second, third = values["cut_offs"]
    return StudyScore(
        **{
            **values,
            "fat_fraction_interval": (low, high),
            "grade_set": tuple(values["grade_set"]),
            "quality": Quality(values["quality"]),
            "limits": tuple(values["limits"]),
            "cut_offs": (first, second, third),
        }
    )
