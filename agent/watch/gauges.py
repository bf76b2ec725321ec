"""What is watched, as metrics. Labels are bounded: figures, and the `MOST_UNITS` busiest scanners and sites by name."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.domain.errors import AgentError
from agent.watch.agreement import Agreement
from agent.watch.drift import DriftReport
from agent.watch.watching import Watching

_PARTS = ("value", "low", "high")


class WatchCollector(Collector):
    """Collects drift and agreement; what cannot be looked at now is left out, as other metrics say why."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    def collect(self) -> Iterator[Metric]:
        """Read and yield each metric."""
        try:
            yield from _drift(self._watching.drift())
            report = self._watching.shadow_report()
            if report is not None:
                waiting = "Live scores that the shadow bundle has not answered"
                yield GaugeMetricFamily("steatosis_shadow_waiting", waiting, report.waiting)
                yield from _agreement("steatosis_shadow", "of the shadow bundle with the live one", report.agreement)
            readers = self._watching.readers()
            yield from _agreement("steatosis_reader", "of readers with the reported grade", readers.every)
        except AgentError:
            return


def _drift(report: DriftReport) -> Iterator[Metric]:
    labels = ["kind", "unit", "figure", "reference"]
    index = GaugeMetricFamily(
        "steatosis_drift_psi", "Population stability index of the latest days, by scanner and site", labels=labels
    )
    verdict = GaugeMetricFamily(
        "steatosis_drifted", "1 where a figure has moved beyond chance and a PSI of 0.25", labels=labels
    )
    studies = GaugeMetricFamily("steatosis_watched_studies", "Studies of the latest days", labels=["kind", "unit"])
    for unit in report.units:
        studies.add_metric([unit.kind, unit.unit], unit.studies)
        for one in unit.comparisons:
            named = [one.kind, one.unit, one.figure, one.reference]
            if one.psi is not None:
                index.add_metric(named, one.psi)
                verdict.add_metric(named, one.verdict == "drifted")
    yield from (index, verdict, studies)


def _agreement(prefix: str, of_what: str, found: Agreement) -> Iterator[Metric]:
    yield GaugeMetricFamily(f"{prefix}_studies", f"Studies behind the agreement {of_what}", len(found.pairs))
    kappa = GaugeMetricFamily(f"{prefix}_kappa", f"Weighted kappa {of_what}, with its 95 % interval", labels=["bound"])
    if found.kappa is not None and found.kappa.value is not None:
        for part in _PARTS:
            kappa.add_metric([part], getattr(found.kappa, part))
    yield kappa
    if found.fat_fraction is not None:
        text = f"Mean difference of the fat fraction {of_what}, percent points"
        yield GaugeMetricFamily(f"{prefix}_fat_fraction_bias", text, found.fat_fraction.bias)
