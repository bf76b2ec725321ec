from __future__ import annotations

import pytest

from agent.domain.eligibility import ULTRASOUND_IMAGE_CLASSES
from agent.retrieve.fetching import STUDY_ROOT_GET, TRANSFER_SYNTAXES, get_contexts
from agent.retrieve.listing import RemoteInstance
from agent.scu.association import MOST_CONTEXTS


def test_each_class_and_syntax_has_a_context_of_its_own_where_ids_suffice() -> None:
    contexts = get_contexts(sorted(ULTRASOUND_IMAGE_CLASSES))
    assert contexts[0].abstract_syntax == STUDY_ROOT_GET
    assert len(contexts) == 1 + len(ULTRASOUND_IMAGE_CLASSES) * len(TRANSFER_SYNTAXES) <= MOST_CONTEXTS
    assert all(len(context.transfer_syntaxes) == 1 and context.as_scp for context in contexts[1:])


@pytest.mark.parametrize("classes", [5, 127, 400])
def test_never_more_contexts_than_there_are_ids(classes: int) -> None:
    contexts = get_contexts([f"1.2.{number}" for number in range(classes)])
    assert len(contexts) <= MOST_CONTEXTS
    assert contexts[1].transfer_syntaxes == TRANSFER_SYNTAXES


@pytest.mark.parametrize(
    ("sop_class", "modality", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.6.1", "US", True),
        ("1.2.840.10008.5.1.4.1.1.3", "OT", True),
        ("1.2.840.10008.5.1.4.1.1.7", "US", False),
        ("1.2.840.10008.5.1.4.1.1.88.34", "SR", False),
        ("", "US", True),
        ("", "", True),
        ("", "SR", False),
    ],
)
def test_what_is_worth_fetching(sop_class: str, modality: str, expected: bool) -> None:
    one = RemoteInstance(sop_instance_uid="1.2", series_instance_uid="1.3", sop_class_uid=sop_class, modality=modality)
    assert one.may_be_ultrasound is expected
