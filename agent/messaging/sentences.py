"""What a message says in words; the research statement stands first in each."""

from __future__ import annotations

from agent.domain.notices import NO_SCORE, RESEARCH_STATEMENT
from agent.domain.score import REFUSAL_MEANINGS, ScoreOutcome


def conclusion(outcome: ScoreOutcome) -> str:
    """Say the result, or that there is none and why."""
    return f"{RESEARCH_STATEMENT} {finding(outcome)}"


def finding(outcome: ScoreOutcome) -> str:
    """Say the result without the statement."""
    score = outcome.score
    if score is None:
        why = "unknown" if outcome.refusal is None else REFUSAL_MEANINGS[outcome.refusal]
        return f"{NO_SCORE} Reason: {why}."
    low, high = score.fat_fraction_interval
    coverage = f"{100 * score.interval_coverage:.0f} %"
    limits = f" Limited: {'; '.join(score.limits)}." if score.limits else ""
    return (
        f"Hepatic steatosis, PDFF-equivalent grade {score.grade}. Estimated fat fraction "
        f"{score.fat_fraction_percent:.1f} % ({low:.1f} to {high:.1f} %, {coverage} interval). "
        f"Probability of steatosis {score.steatosis_probability:.2f}. Image quality {score.quality}.{limits}"
    )
