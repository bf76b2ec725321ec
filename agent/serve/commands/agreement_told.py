"""What `agent shadow report` and `agent readers` say to people; `--json` has everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.domain.score import GRADES
from agent.watch.agreement import Agreement, Answer
from agent.watch.readers import ReadersReport
from agent.watch.watching import ShadowReport

_MOST_TOLD: Final = 20


def shadow_told(report: ShadowReport) -> str:
    """Write the shadow's report."""
    found = report.agreement
    lines = [
        f"shadow   {report.name} ({report.shadow[:12]}) beside {report.live[:12]}",
        f"studies  {len(found.pairs)} compared, {report.waiting} waiting",
        f"grades   {kappa_told(found)}",
        f"refused  by the shadow alone {found.only_first}, by the live one alone {found.only_second}, "
        f"by both {found.both_refused}",
    ]
    limits = found.fat_fraction
    if limits is not None:
        spread = "" if limits.low is None else f", limits of agreement {limits.low:+.2f} to {limits.high:+.2f}"
        bias = "" if limits.bias_low is None else f" ({limits.bias_low:+.2f} to {limits.bias_high:+.2f})"
        lines.append(f"fat      shadow minus live {limits.bias:+.2f} points{bias}{spread}")
    return "\n".join([*lines, *_table(found, "live", "shadow"), *_disagreements(found, "live", "shadow")])


def readers_told(report: ReadersReport) -> str:
    """Write the readers' report."""
    lines = [
        f"grades       {report.grades} kept, {len(report.every.pairs)} of studies with a result",
        f"all          {kappa_told(report.every)}",
        f"independent  {kappa_told(report.independent)}",
    ]
    lines += [f"{name:12} {kappa_told(found)}" for name, found in (*report.months, *report.readers)]
    return "\n".join(
        [*lines, *_table(report.every, "result", "reader"), *_disagreements(report.every, "result", "reader")]
    )


def kappa_told(found: Agreement) -> str:
    """Say a weighted kappa with its interval, and how many are the same."""
    kappa = found.kappa
    if kappa is None:
        return "nothing to compare yet"
    same = f"{100 * kappa.exact:.0f} % the same grade of {kappa.studies}"
    if kappa.value is None:
        return f"{same}; no kappa, since both gave a single grade"
    return f"weighted kappa {kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f}), {same}"


def _table(found: Agreement, first: str, second: str) -> Iterator[str]:
    if found.kappa is None:
        return
    yield f"\n{first} down, {second} across"
    yield "      " + "".join(f"{grade:>6}" for grade in GRADES)
    for grade, row in zip(GRADES, found.kappa.table, strict=True):
        yield f"{grade:>6}" + "".join(f"{count:>6}" for count in row)


def _disagreements(found: Agreement, first: str, second: str) -> Iterator[str]:
    told = found.disagreements
    if not told:
        return
    more = f", {_MOST_TOLD} of {len(told)}" if len(told) > _MOST_TOLD else ""
    yield f"\nwhere they differ, furthest apart first{more}"
    for pair in told[:_MOST_TOLD]:
        yield f"{pair.study_instance_uid}  {first} {_answer(pair.first)}, {second} {_answer(pair.second)}"


def _answer(answer: Answer) -> str:
    if answer.grade is None:
        return f"no score ({answer.refusal})"
    fat = answer.fat_fraction_percent
    return answer.grade if fat is None else f"{answer.grade} {fat:.1f} %"
