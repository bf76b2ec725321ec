"""`agent demo --to`: the synthetic patients pushed to an agent that runs already, to be seen on its page."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from agent.demo.demo import SEED
from agent.demo.patients import make_study
from agent.demo.sender import send_study
from agent.domain.identifiers import Archive
from inference.contract import GRADES


def push_demo(*, to: Archive, patients: int, as_json: bool) -> int:
    """Draw the patients and push each study over one association; returns the exit status.

    Parameters
    ----------
    to
        The agent's application entity.
    patients
        How many.
    as_json
        Print the rows as JSON instead of a table.

    Raises
    ------
    ArchiveError
        An association was refused, or an instance was not stored.
    """
    console = Console(stderr=True)
    when = datetime.now().astimezone()
    rows = []
    for number in track(range(1, patients + 1), description=f"drawing and pushing to {to}", console=console):
        study = make_study(number, seed=SEED, when=when)
        send_study(study.instances, host=to.host, port=to.port, called=to.ae_title)
        rows.append(
            {
                "patient": study.label,
                "true_grade": GRADES[study.patient.grade],
                "true_fat_fraction_percent": study.patient.fat_fraction_percent,
                "study_instance_uid": study.study_instance_uid,
            }
        )
    _tell(rows, as_json)
    return 0


def _tell(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"patients": rows}, indent=2) + "\n")
        return
    console = Console()
    table = Table(title="Pushed; synthetic patients, for research use only")
    for heading in ("patient", "truth", "study"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        truth = f"{row['true_grade']}, {row['true_fat_fraction_percent']:.1f} %"
        table.add_row(row["patient"], truth, row["study_instance_uid"])
    console.print(table)
    console.print("What becomes of them stands on that agent's page, and in its `agent worklist`.")
