"""Performing steps of a UPS worklist: each look claims what waits and tells of what moved; it may be cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from agent.domain.errors import ArchiveError, ArchiveRefusedError
from agent.domain.identifiers import Archive
from agent.domain.procedure_step import PerformedStep, Performing
from agent.domain.work_item import State
from agent.procedure.step_scu import PULL_CONTEXT, claim, finish, tell, waiting_steps
from agent.scu.association import AssociationGoneError, OpenAssociation, associate
from agent.scu.config import ScuConfig
from agent.worklist import performed_steps, step_outcomes
from agent.worklist.ledger import Ledger

_FINAL: Final = (State.COMPLETED, State.CANCELED)
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 5.0, 300.0
_AT_ONCE: Final = 20
"""Steps under way; more are left to other performers."""


@dataclass(frozen=True, kw_only=True)
class Performer:
    """Performs the steps of one provider.

    Parameters
    ----------
    archive
        AE title from which our results can be retrieved; None where they are only kept.
    code, label
        Which steps: Scheduled Workitem Code Value and Worklist Label; empty: any.
    """

    ledger: Ledger
    provider: Archive
    scu: ScuConfig
    archive: str | None
    code: str
    label: str
    bundle_digest: str
    random: Random
    now: Callable[[], float]
    log: Any

    def look(self) -> None:
        """Do what is due; raises LedgerError where the ledger is away. A provider that is away is asked again later."""
        try:
            with associate(self.provider, self.scu, [PULL_CONTEXT]) as association:
                for step in self._open():
                    self._advance(association, step)
                if len(self._open()) < _AT_ONCE:
                    self._take(association)
        except (ArchiveError, ArchiveRefusedError) as error:
            self.log.warning("the provider is asked again later", cause=error.cause, remedy=error.remedy)

    def _open(self) -> list[PerformedStep]:
        return performed_steps.open_steps(self.ledger, str(self.provider))

    def _take(self, association: OpenAssociation) -> None:
        """Record and claim what waits."""
        room = _AT_ONCE - len(self._open())
        for found in list(waiting_steps(association, code=self.code, label=self.label)):
            if room <= 0:
                break
            room -= performed_steps.begin(
                self.ledger,
                provider=str(self.provider),
                sop_instance_uid=found.sop_instance_uid,
                study_instance_uid=found.study_instance_uid,
                transaction_uid=f"2.25.{self.random.getrandbits(122)}",
                now=self.now(),
            )
        for step in self._open():
            if step.state is Performing.CLAIMING:
                self._advance(association, step)

    def _advance(self, association: OpenAssociation, step: PerformedStep) -> None:
        """Bring one step on; what its provider refuses, for good or for now, stops no other."""
        if step.not_before > self.now():
            return
        try:
            if step.state is Performing.CLAIMING:
                self._claim(association, step)
            else:
                self._tell(association, step)
        except ArchiveRefusedError as error:
            self.log.warning("procedure step given up", step=step.sop_instance_uid, cause=error.cause)
            performed_steps.end(self.ledger, step, Performing.LOST, now=self.now(), error=error.cause)
        except AssociationGoneError:
            raise
        except ArchiveError as error:
            self.log.warning("procedure step waits", step=step.sop_instance_uid, cause=error.cause)
            wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(step.attempts, 10))
            performed_steps.put_off(self.ledger, step, not_before=self.now() + wait, error=error.cause)

    def _claim(self, association: OpenAssociation, step: PerformedStep) -> None:
        if not claim(association, step.sop_instance_uid, step.transaction_uid):
            performed_steps.end(self.ledger, step, Performing.LOST, now=self.now(), error="another performer has it")
            return
        made = performed_steps.claimed(self.ledger, step, bundle_digest=self.bundle_digest, now=self.now())
        self.log.info("procedure step claimed", step=step.sop_instance_uid, work_item=made)

    def _tell(self, association: OpenAssociation, step: PerformedStep) -> None:
        outcome = None if step.work_item_id is None else step_outcomes.outcome_of(self.ledger, step.work_item_id)
        if outcome is None:
            return
        uid, transaction = step.sop_instance_uid, step.transaction_uid
        if outcome.state in _FINAL:
            finish(association, uid, transaction, outcome, ae_title=self.scu.ae_title, archive=self.archive)
            performed_steps.end(self.ledger, step, Performing.DONE, now=self.now())
            self.log.info("procedure step ended", step=uid, state=outcome.state, outputs=len(outcome.outputs))
        elif outcome.progress != step.progress:
            tell(association, uid, transaction, outcome)
            performed_steps.told(self.ledger, step, outcome.progress)
