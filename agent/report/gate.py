"""The last look before an object leaves: our own rules, for what validators such as dciodvfy do not see.

Each rule reads the object back from its bytes, as an archive will, and says what is wrong in one sentence, or nothing.
"""

from __future__ import annotations

from typing import Final

from agent.domain.results import ResultObject
from agent.report import gate_content as content
from agent.report import gate_header as header
from agent.report.envelope import ReportedStudy
from agent.report.errors import GateError
from agent.report.finished import SOP_CLASSES, Finished, Rule

__all__ = ["RULES", "SOP_CLASSES", "check"]

RULES: Final[dict[str, Rule]] = {
    "encoding": header.encoding,
    "identity": header.identity,
    "source-identity": header.source_identity,
    "research-marking": header.research,
    "synthetic-data": header.synthetic,
    "flags": header.flags,
    "codes": content.known_codes,
    "purposes": content.purposes,
    "predecessor": content.predecessor,
    "algorithm-identity": content.algorithm,
    "lossy-compression": header.lossy,
    "references": content.references,
    "evidence": content.all_evidence,
    "orientation": header.orientation,
    "burned-in": header.burned_in,
    "sizes": header.sizes,
    "value-lengths": content.value_lengths,
    "words": content.words,
    "iod": header.iod,
}
"""Name → rule, in the order they are held against an object."""


def check(study: ReportedStudy, made: ResultObject) -> None:
    """Hold an object against every rule.

    Raises
    ------
    GateError
        Naming the first rule that it breaks.
    """
    finished = Finished(study=study, made=made)
    for name, rule in RULES.items():
        cause = rule(finished)
        if cause is not None:
            raise GateError(name, cause, made)
