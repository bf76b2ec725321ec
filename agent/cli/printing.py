"""What commands print: tables, one study in words, progress on standard error."""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli.options import NOTICE


def progress(text: str) -> None:
    """Show that long work goes on, on standard error."""
    click.echo(text, err=True)


def print_entries(entries: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...], digits: int = 1) -> None:
    """Print a table of these columns, or everything as JSON."""
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    rows = [[_cell(entry.get(column), digits) for column in columns] for entry in entries]
    widths = [max(len(text) for text in column) for column in zip(columns, *rows, strict=True)]
    for row in [list(columns), *rows]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _used(view: dict[str, Any]) -> str:
    return "used" if view["weight"] is None else f"used, weight {view['weight']:.2f}"


def _headline(shown: dict[str, Any]) -> list[str]:
    """Say where a study stands, and its score."""
    score_ = shown["score"]
    lines = [f"study   {shown['study_instance_uid']}", f"state   {shown['state']} {shown['reason'] or ''}"]
    if score_:
        low, high = score_["fat_fraction_interval"]
        lines.append(
            f"score   {score_['grade']}  fat fraction {score_['fat_fraction_percent']:.1f} % "
            f"({low:.1f} to {high:.1f} %)  "
            f"steatosis probability {score_['steatosis_probability']:.2f}  {score_['quality']}"
        )
    if shown["borderline"]:
        lines.append(f"score   borderline: {'; '.join(shown['borderline'])}")
    if shown["withheld"]:
        lines.append("score   withheld: blinded until `agent release`")
    if shown["order"]:
        lines.append(f"order   {shown['order']['result']} {shown['order']['detail']}".rstrip())
    return lines


def told(shown: dict[str, Any]) -> str:
    """Write a study for people; `--json` has everything."""
    lines = _headline(shown)
    if shown["model"]:
        name, version, *engine = (shown["model"][key] for key in ("name", "version", "backend", "precision"))
        lines.append(f"model   {name} {version} on {' '.join(engine)}")
    for view in shown["views"]:
        what = _used(view) if view["used"] else f"not used: {view['reason']}"
        lines.append(f"view    {view['sop_instance_uid']} frame {view['frame'] or '-'} {view['view'] or ''}: {what}")
    for result in shown["results"]:
        where = result["destination"] or "kept here"
        said = [result["state"], result["proof"] or "", result["last_error"] or ""]
        if result["next_attempt_at"]:
            said.append(f"next {result['next_attempt_at']}")
        lines.append(f"result  {result['kind']} {result['sop_instance_uid']} {where}: {' '.join(filter(None, said))}")
    for step in shown["times"]["steps"]:
        lines.append(f"step    {step['started']} {step['step']} {step['seconds']} s {step['outcome'] or ''}")
    return "\n".join([*lines, NOTICE])
