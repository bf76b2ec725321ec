"""The command line: parse, call, exit code. Data go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from agent import __version__
from agent.domain.errors import AgentError, NotFoundError
from agent.domain.identifiers import is_uid
from agent.settings import Settings, load_settings

_WRONG_USE: Final = 2
_NOTICE: Final = "For research use only; not for use in diagnostic procedures."

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="AGENT_CONFIG",
    help="Settings file (TOML); environment variables AGENT_<SECTION>__<KEY> win over it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Uid(click.ParamType[str]):
    name = "STUDY-UID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if is_uid(str(value)):
            return str(value)
        self.fail(f"{value!a} is not a Study Instance UID", param, ctx)


def main() -> int:
    """Run the command line; returns the exit status (0 done, 1 fault, 2 wrong use or settings, 3 not found)."""
    try:
        status = cli.main(standalone_mode=False, prog_name="agent")
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return _WRONG_USE
    except AgentError as error:
        click.echo(f"agent: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return status if isinstance(status, int) else 0


@click.group(epilog=_NOTICE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="steatosis-agent")
def cli() -> None:
    """Grade hepatic steatosis on abdominal ultrasound and file the result in PACS."""


def _settings(config: Path | None) -> Settings:
    return load_settings(config, os.environ)


def _quiet_logs(settings: Settings) -> None:
    from agent.observe.logs import set_up_logging

    set_up_logging(settings.log.format or "auto", role="cli", level="warning")


@cli.command()
@config_option
@click.option("--role", type=click.Choice(["all", "listener", "worker", "web"]), default="all", show_default=True)
def serve(config: Path | None, role: str) -> int:
    """Receive, score, report and deliver until SIGTERM."""
    from agent.observe.logs import set_up_logging
    from agent.serve.serve import serve as run

    settings = _settings(config)
    set_up_logging(settings.log.format or "auto", role="serve")
    return run(settings, role, config)


@cli.command()
@click.argument("studies", metavar="STUDY-UID...", nargs=-1, type=_Uid())
@click.option("--from", "source", type=click.Choice(["spool", "archive"]), help="Default: the spool if it is whole.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Every study received since this date (UTC).")
@click.option("--model", type=click.Path(path_type=Path, file_okay=False), help="Score with another bundle.")
@click.option("--wait", is_flag=True, help="Wait for the outcome and print it.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
@config_option
def replay(
    studies: tuple[str, ...],
    source: str | None,
    since: datetime | None,
    model: Path | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    config: Path | None,
) -> int:
    """Score studies again, from the spool or fetched back from the archive.

    The same instances and model make no new object: what the archive lacks is sent again, byte for byte.
    """
    from agent.serve.replays import ReplayRequest, replay_studies

    if not studies and since is None:
        raise click.UsageError("name a STUDY-UID, or give --since")
    settings = _settings(config)
    _quiet_logs(settings)
    request = ReplayRequest(
        studies=studies, source=source, since=_seconds(since), bundle=model, dry_run=dry_run, wait=wait
    )
    entries, status = replay_studies(settings, request, _progress)
    _print(entries, as_json, ("study_instance_uid", "work_item", "source", "state", "reason"))
    return status


@cli.command()
@click.option("--state", help="RECEIVING, SCHEDULED, 'IN PROGRESS', COMPLETED, CANCELED, held or failed.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@json_option
@config_option
def worklist(state: str | None, limit: int, as_json: bool, config: Path | None) -> int:
    """List the work items, newest first."""
    from agent.serve.context import kept_ledger_of
    from agent.worklist import reading

    if state is not None and state not in reading.FILTERS:
        raise click.UsageError(f"--state {state!r} is none of {', '.join(reading.FILTERS)}")
    entries = reading.worklist(kept_ledger_of(_settings(config)), state, limit=limit)
    _print(
        entries, as_json, ("id", "study_instance_uid", "state", "reason", "grade", "fat_fraction_percent", "created_at")
    )
    return 0


@cli.command()
@click.argument("study", metavar="STUDY-UID", type=_Uid())
@json_option
@config_option
def show(study: str, as_json: bool, config: Path | None) -> int:
    """Say everything known of a study."""
    from agent.serve.context import kept_ledger_of
    from agent.worklist import reading

    shown = reading.show(kept_ledger_of(_settings(config)), study)
    click.echo(json.dumps(shown, indent=2) if as_json else _told(shown))
    return 0


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@json_option
@config_option
def score(paths: tuple[Path, ...], as_json: bool, config: Path | None) -> int:
    """Score DICOM files or folders without network, ledger or queue: one JSON line per study."""
    from agent.serve.score_files import score_paths

    del as_json  # one JSON line per study either way; the option is taken for uniformity
    settings = _settings(config)
    _quiet_logs(settings)
    found = False
    for line in score_paths(settings, paths, _progress):
        found = True
        click.echo(json.dumps(line))
    if not found:
        raise NotFoundError("no DICOM instance was found under the given paths")
    return 0


@cli.command()
@click.option("--deep", is_flag=True, help="Check every row of the ledger against its file.")
@json_option
@config_option
def doctor(deep: bool, as_json: bool, config: Path | None) -> int:
    """Probe archives, broker, ledger, disk and model; say the true cause of each fault."""
    from agent.serve.doctor import examine

    settings = _settings(config)
    _quiet_logs(settings)
    findings = examine(settings, deep=deep)
    if as_json:
        click.echo(json.dumps(findings, indent=2))
    else:
        for finding in findings:
            mark = click.style("ok   ", fg="green") if finding["ok"] else click.style("FAULT", fg="red", bold=True)
            remedy = f"\n        -> {finding['remedy']}" if finding["remedy"] and not finding["ok"] else ""
            click.echo(f"{mark} {finding['subject']}: {finding['message']}{remedy}")
    return 0 if all(finding["ok"] for finding in findings) else 1


@cli.command()
@config_option
def conformance(config: Path | None) -> int:
    """Write the DICOM Conformance Statement of the configuration, as Markdown."""
    from agent.serve.conformance import conformance_statement

    click.echo(conformance_statement(_settings(config)), nl=False)
    return 0


@cli.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the pictures go; default: a temporary folder.",
)
@click.option("--patients", type=click.IntRange(1, 100), default=12, show_default=True)
@json_option
def demo(folder: Path | None, patients: int, as_json: bool) -> int:
    """Show the whole way: a dozen synthetic patients pushed to an agent of their own and read back from an archive."""
    from agent.demo.demo import run_demo

    return run_demo(folder=folder, patients=patients, as_json=as_json)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which `retry` and `cancel` choose work items."""
    for option in (
        click.argument("study", metavar="[STUDY-UID]", required=False, type=_Uid()),
        click.option("--state", help="As `worklist --state` takes it."),
        click.option("--reason", help="Beginning of the reason, e.g. delivery-failed."),
        click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Made since this date (UTC)."),
        click.option("--dry-run", is_flag=True, help="Only say which."),
        json_option,
        config_option,
    ):
        command = option(command)
    return command


@cli.command()
@_filters
def retry(config: Path | None, as_json: bool, **chosen: Any) -> int:
    """Make new work items for failed or canceled ones, with the same result key."""
    from agent.serve.commands import Choice, retry_work_items

    entries = retry_work_items(_settings(config), _choice(Choice, chosen))
    _print(entries, as_json, ("study_instance_uid", "work_item", "retried", "state"))
    return 0


@cli.command()
@_filters
def cancel(config: Path | None, as_json: bool, **chosen: Any) -> int:
    """End work items in any state that is not final."""
    from agent.serve.commands import Choice, cancel_work_items

    entries = cancel_work_items(_settings(config), _choice(Choice, chosen))
    _print(entries, as_json, ("study_instance_uid", "work_item", "state"))
    return 0


@cli.command()
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Studies of this date and later; default: yesterday.")
@click.option("--all", "every", is_flag=True, help="Print every study, not only those that were missed.")
@json_option
@config_option
def reconcile(since: datetime | None, every: bool, as_json: bool, config: Path | None) -> int:
    """Compare the archive's ultrasound studies with what was scored; each miss with its reason.

    The exit status is 1 where a study was missed: run it once a day.
    """
    from agent.serve.reconciling import MISSED
    from agent.serve.reconciling import reconcile as compare

    settings = _settings(config)
    _quiet_logs(settings)
    day = (since or datetime.now(UTC) - timedelta(days=1)).date()
    found = list(compare(settings, day))
    missed = [entry for entry in found if entry.outcome == MISSED]
    shown = found if every else missed
    _print([entry.as_dict() for entry in shown], as_json, ("study_date", "outcome", "study_instance_uid", "reason"))
    counted = ", ".join(f"{count} {outcome}" for outcome, count in Counter(e.outcome for e in found).items())
    _progress(f"{len(found)} ultrasound studies since {day}{': ' + counted if found else ''}")
    if missed:
        _progress("Fetch and score what was missed: agent replay --from archive STUDY-UID…")
    return 1 if missed else 0


@cli.command("drift")
@click.option("--all", "every", is_flag=True, help="Print every figure, not only those that have moved.")
@json_option
@config_option
def drift_command(every: bool, as_json: bool, config: Path | None) -> int:
    """Compare the latest days of each scanner and site with the bundle's reference and with their own first studies.

    The exit status is 1 where a figure has drifted from its own beginning: run it once a day.
    """
    from agent.serve.watching import drift_entries, drift_told

    settings = _settings(config)
    _quiet_logs(settings)
    report, entries = drift_entries(settings)
    shown = entries if every or as_json else [one for one in entries if one["verdict"] in ("moved", "drifted")]
    columns = ("kind", "unit", "figure", "reference", "studies", "psi", "chance", "p", "verdict")
    for line in drift_told(report):
        _progress(line)
    _print(shown, as_json, columns, digits=3)
    return 1 if report.drifted else 0


@cli.group("shadow")
def shadow_group() -> None:
    """Look at the bundle that scores beside the live one (`model.shadow_bundle`)."""


@shadow_group.command("report")
@json_option
@config_option
def shadow_report_command(as_json: bool, config: Path | None) -> int:
    """Say how the shadow bundle agrees with the live one: grades, fat fractions, and the studies where they differ."""
    from agent.serve.agreement_told import shadow_told
    from agent.serve.watching import shadow_report

    settings = _settings(config)
    _quiet_logs(settings)
    report = shadow_report(settings)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else shadow_told(report))
    return 0


@cli.command("readers")
@json_option
@config_option
def readers_command(as_json: bool, config: Path | None) -> int:
    """Say how readers' grades agree with the reported ones: over all, by month and by reader."""
    from agent.serve.agreement_told import readers_told
    from agent.serve.watching import readers_report_of

    settings = _settings(config)
    _quiet_logs(settings)
    report = readers_report_of(settings)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else readers_told(report))
    return 0


@cli.command()
@config_option
def migrate(config: Path | None) -> int:
    """Bring the ledger to this version's tables; before an upgrade of several hosts. `serve` does it by itself."""
    from agent.serve.context import ledger_of

    settings = _settings(config)
    _quiet_logs(settings)
    ledger_of(settings).close()
    _progress("the ledger has this version's tables")
    return 0


@cli.group()
def model() -> None:
    """Look after model bundles."""


@model.command("list")
@json_option
@config_option
def model_list(as_json: bool, config: Path | None) -> int:
    """List the configured, the shipped and the installed bundles."""
    from agent.serve.models import list_bundles

    _print(list_bundles(_settings(config)), as_json, ("name", "version", "members", "digest", "folder", "configured"))
    return 0


@model.command("verify")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@json_option
@config_option
def model_verify(folder: Path | None, as_json: bool, config: Path | None) -> int:
    """Check a bundle's digests, and its golden vectors on this machine."""
    from agent.serve.models import verify_bundle

    entry = verify_bundle(_settings(config), folder)
    _print([entry], as_json, ("name", "version", "backend", "precision", "ok", "worst"))
    return 0 if entry["ok"] else 1


@model.command("compile")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@json_option
@config_option
def model_compile(folder: Path | None, as_json: bool, config: Path | None) -> int:
    """Build a bundle for this machine, try every engine, and remember the fastest that agrees."""
    from agent.serve.models import compile_bundle

    entry = compile_bundle(_settings(config), folder, _progress)
    _print([entry], as_json, ("name", "version", "backend", "precision", "ok"))
    return 0 if entry["ok"] else 1


@model.command("install")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
@config_option
def model_install(folder: Path, as_json: bool, config: Path | None) -> int:
    """Check a bundle and copy it into the data folder."""
    from agent.serve.models import install_bundle

    entry = install_bundle(_settings(config), folder)
    _print([entry], as_json, ("name", "version", "members", "digest", "folder"))
    if not as_json and not entry["configured"]:
        click.echo(f'To score with it: [model] bundle = "{entry["folder"]}"', err=True)
    return 0


@cli.group()
def audit() -> None:
    """Look into the audit trail: who sent and received what."""


@audit.command("verify")
@json_option
@config_option
def audit_verify(as_json: bool, config: Path | None) -> int:
    """Follow the chain of the whole trail; the head that it prints, noted elsewhere, proves everything before."""
    from agent.serve.auditing import verify_trail

    entry = verify_trail(_settings(config))
    _print([entry], as_json, ("ok", "records", "first", "torn", "fault", "head"))
    return 0 if entry["ok"] else 1


@audit.command("export")
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="Only records behind this number.")
@json_option
@config_option
def audit_export(after: int, as_json: bool, config: Path | None) -> int:
    """Print the messages, XML of DICOM PS3.15 A.5, one a line; with --json with number and hashes."""
    from agent.serve.auditing import export_trail

    for record in export_trail(_settings(config), after):
        click.echo(record.line().decode().rstrip() if as_json else record.message)
    return 0


def _choice(kind: type[Any], chosen: dict[str, Any]) -> Any:
    if not any(chosen[name] for name in ("study", "state", "reason", "since")):
        raise click.UsageError("say which: a STUDY-UID, --state, --reason or --since")
    return kind(**{**chosen, "since": _seconds(chosen["since"])})


def _seconds(date: datetime | None) -> float | None:
    return None if date is None else date.replace(tzinfo=UTC).timestamp()


def _progress(text: str) -> None:
    """Show that long work goes on, on standard error."""
    click.echo(text, err=True)


def _print(entries: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...], digits: int = 1) -> None:
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


def _told(shown: dict[str, Any]) -> str:
    """Write a study for people; `--json` has everything."""
    score_, lines = (
        shown["score"],
        [f"study   {shown['study_instance_uid']}", f"state   {shown['state']} {shown['reason'] or ''}"],
    )
    if score_:
        low, high = score_["fat_fraction_interval"]
        lines.append(
            f"score   {score_['grade']}  fat fraction {score_['fat_fraction_percent']:.1f} % "
            f"({low:.1f} to {high:.1f} %)  "
            f"steatosis probability {score_['steatosis_probability']:.2f}  {score_['quality']}"
        )
    if shown["model"]:
        name, version, *engine = (shown["model"][key] for key in ("name", "version", "backend", "precision"))
        lines.append(f"model   {name} {version} on {' '.join(engine)}")
    for view in shown["views"]:
        what = f"used, weight {view['weight']:.2f}" if view["used"] else f"not used: {view['reason']}"
        lines.append(f"view    {view['sop_instance_uid']} frame {view['frame'] or '-'} {view['view'] or ''}: {what}")
    for result in shown["results"]:
        where = result["destination"] or "kept here"
        said = [result["state"], result["proof"] or "", result["last_error"] or ""]
        if result["next_attempt_at"]:
            said.append(f"next {result['next_attempt_at']}")
        lines.append(f"result  {result['kind']} {result['sop_instance_uid']} {where}: {' '.join(filter(None, said))}")
    for step in shown["times"]["steps"]:
        lines.append(f"step    {step['started']} {step['step']} {step['seconds']} s {step['outcome'] or ''}")
    return "\n".join([*lines, _NOTICE])
