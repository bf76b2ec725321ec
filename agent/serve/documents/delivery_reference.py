"""Generated documentation: the retry classes, as `docs/delivery.md`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from agent.deliver import backoff
from agent.deliver.status import COMMITMENT_FAILURES, STORE_RULES, UNKNOWN_FAILURE
from agent.messaging import fhir_server, mllp
from agent.scu.outcomes import ASSOCIATION_OUTCOMES, CONTEXT_RESULTS, REJECTIONS, Verdict, spans
from agent.serve.documents.markdown import table

_VERDICTS: Final = {
    Verdict.PASSED: "goes on to proof",
    Verdict.RETRY: "tried again",
    Verdict.FAILED: "dead letter",
}
_HEAD: Final = """# Delivery: what is tried again, and what counts as proof

Generated from the tables in `agent/deliver/status.py` and `agent/scu/outcomes.py` by `make docs`; do not edit.

Every (object, archive) is a row of the outbox; `agent show STUDY-UID` lists them with state, proof, attempts, next
attempt and last error.

| state | |
|---|---|
| `pending` | to be sent, or to be looked for and sent where it is missing |
| `sent` | the archive answered Success; not proved yet |
| `proved` | by `storage-commitment` or `c-find` |
| `failed` | trying again cannot help |
| `kept` | no destination is set |
| `withheld` | blinded: nothing leaves before `agent release` |

A work item is COMPLETED when every row is proved. When one has failed and none is open it is CANCELED with
`delivery-failed: ARCHIVE: cause`: a dead letter, listed by `agent worklist --state failed` until something later of its
study stands for it. `agent retry --state failed` (or `--reason`, `--since`, STUDY-UID) sends dead letters again under
the same UIDs; `agent cancel` ends a work item in any state, and closes a study that still receives.

Where pictures of a quarter of a megabyte or more are to go, a second association with the archive takes them from the
end while the first sends from the beginning. It decides nothing: what goes wrong on it is sent on the first. An archive
that takes no second one is not asked for one again until the process is restarted.

Objects go byte for byte as they are kept. Pictures are kept as JPEG Baseline (quality 95, 4:4:4: a tenth of the bytes);
an archive that accepts Secondary Capture only uncompressed gets them decoded on the way, under the same UIDs, and still
marked as lossy. `agent doctor` says which archives those are.

Between two deliveries associations are opened while the next report is still being made. Nothing is sent on them before
the objects are whole and checked; one that is not needed is released within three seconds.

## Proof

1. Where the archive accepts the Storage Commitment Push Model, it is asked (N-ACTION) for all objects of a round in one
   transaction. Its N-EVENT-REPORT may come on the same association, which stays open for it, or on an association of
   the archive's to any listener process; the ledger matches it by Transaction UID.
2. C-FIND has the last word: an object that the archive committed to but does not list is looked for and sent again.
   A second association that is open asks while the report is awaited; what is not listed then is asked for once more
   after the report. Where the archive accepts no C-FIND, commitment alone proves.
3. Without a report within `results.commitment_seconds`, or where the request is refused, C-FIND alone proves.

A FHIR server has proved a result when it returns the report on being asked for it (`fhir-read`); an HL7 v2 receiver
when it acknowledges the message, since HL7 v2 has nothing stronger (`hl7-ack`). Both are told again after a fault: FHIR
by conditional create, so that nothing comes twice; HL7 v2 with the same message under the same control id (MSH-10).
What an HL7 v2 receiver acknowledged is not told again by a retry of what another destination refused, but by a replay.
"""
_PATIENCE: Final = """
## Patience

Full jitter between attempts: up to {first:g} s at first, doubling to {young:g} s for the first {young_age:g} minutes
and to {cap:g} s after. Given up after {days:g} days and {fewest} attempts, with the last cause as the reason. An
archive that let us wait is passed by meanwhile, so that it holds up no other. An error of ours on the way counts as an
attempt like any other; the log of the deliver worker has it in full. A FHIR server that says by Retry-After how long it
wants to be left alone is called no sooner, but after {asked:g} minutes at the latest.
"""


def delivery_reference() -> str:
    """Write every retry class."""
    stores = [(rule.span, rule.words, _VERDICTS[rule.verdict]) for rule in spans(STORE_RULES)]
    parts = [
        _HEAD,
        _section("C-STORE status (PS3.4 Table B.2-1, PS3.7 Annex C)", ("status", "meaning", "then"), stores),
        _section("Association", ("what happens", "", "then"), _outcomes()),
        _section("A-ASSOCIATE-RJ (PS3.8 Table 9-21)", ("source, reason", "meaning", "if permanent"), _rejections()),
        "\nA transient rejection is always tried again.\n",
        _section("Presentation context (PS3.8 Table 9-18)", ("result", "meaning", "then"), _contexts()),
        _section("Failure Reason of a commitment (PS3.3 C.14.1.1)", ("reason", "meaning", "then"), _failures()),
        _section("FHIR server (HTTP status)", ("status", "then"), _statuses()),
        _section("HL7 v2 acknowledgement (tables 0008 and 0357)", ("answer", "meaning", "then"), _acknowledgements()),
        _PATIENCE.format(
            first=backoff.FIRST_SECONDS,
            young=backoff.YOUNG_CAP_SECONDS,
            young_age=backoff.YOUNG_SECONDS / 60,
            asked=backoff.ASKED_CAP_SECONDS / 60,
            cap=backoff.CAP_SECONDS,
            days=backoff.PATIENCE_SECONDS / 86_400,
            fewest=backoff.FEWEST_ATTEMPTS,
        ),
    ]
    return "".join(parts)


def _outcomes() -> Iterable[tuple[str, str, str]]:
    return [(words, _VERDICTS[verdict], then) for verdict, words, then in ASSOCIATION_OUTCOMES.values()]


def _rejections() -> Iterable[tuple[str, str, str]]:
    for (source, reason), (may_pass, words, remedy) in REJECTIONS.items():
        yield f"{source}, {reason}", words, f"{_VERDICTS[Verdict.RETRY if may_pass else Verdict.FAILED]}; {remedy}"


def _contexts() -> Iterable[tuple[str, str, str]]:
    return [(str(result), words, _VERDICTS[verdict]) for result, (verdict, words) in CONTEXT_RESULTS.items()]


def _failures() -> Iterable[tuple[str, str, str]]:
    for code, (then, words) in COMMITMENT_FAILURES.items():
        yield f"{code:04X}", words, then.value
    yield "any other", UNKNOWN_FAILURE[1], UNKNOWN_FAILURE[0].value


def _statuses() -> Iterable[tuple[str, str]]:
    yield "2xx", "the report is read back, searched for where the answer does not say where it is"
    yield ", ".join(map(str, sorted(fhir_server.MAY_PASS))), _VERDICTS[Verdict.RETRY]
    yield "any other", _VERDICTS[Verdict.FAILED]


def _acknowledgements() -> Iterable[tuple[str, str, str]]:
    yield ", ".join(sorted(mllp.ACCEPTED)), "accepted", "proved"
    yield mllp.DUPLICATE, "duplicate key identifier: the receiver has it", "proved"
    yield from ((code, words, _VERDICTS[Verdict.RETRY]) for code, words in mllp.MAY_PASS.items())
    yield from ((code, words, _VERDICTS[Verdict.FAILED]) for code, words in mllp.STAYS.items())
    yield "AR, CR", "without a condition above", _VERDICTS[Verdict.RETRY]
    yield "AE, CE", "without a condition above", _VERDICTS[Verdict.FAILED]
    yield "none", "no answer, or that of another message", _VERDICTS[Verdict.RETRY]


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([f"\n## {title}\n", *table(head, rows)]) + "\n"
