"""Instances named by study and series (PS3.3 Table C.17-3, Hierarchical SOP Instance Reference Macro)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from agent.report.content_items import instance as instance_item
from agent.report.data_set import DataSet


class Referenced(Protocol):
    """What has the four UIDs of an instance."""

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID."""

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""


def references(instances: Iterable[Referenced]) -> list[DataSet]:
    """Make an item for each study, with its series and their instances in the order given."""
    studies: dict[str, dict[str, list[DataSet]]] = {}
    for instance in instances:
        item = instance_item(instance.sop_class_uid, instance.sop_instance_uid)
        series = studies.setdefault(instance.study_instance_uid, {})
        series.setdefault(instance.series_instance_uid, []).append(item)
    return [study_item(uid, series) for uid, series in studies.items()]


def study_item(study_instance_uid: str, series: dict[str, list[DataSet]]) -> DataSet:
    """Make the item of one study."""
    made = DataSet()
    made.StudyInstanceUID = study_instance_uid
    made.ReferencedSeriesSequence = []
    for series_instance_uid, instances in series.items():
        item = DataSet()
        item.SeriesInstanceUID, item.ReferencedSOPSequence = series_instance_uid, instances
        made.ReferencedSeriesSequence.append(item)
    return made
