"""`agent doctor`: look at everything that a study meets on its way, and say the true cause of each fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import redis
import sqlalchemy as sa

from agent.deliver.probe import probe_archive
from agent.domain.errors import AgentError, LedgerError
from agent.domain.identifiers import Archive
from agent.procedure.step_scu import PULL_CONTEXT, waiting_steps
from agent.scu.association import Context, OpenAssociation, associate
from agent.scu.certificates import Validity, validities_in
from agent.scu.config import ScuConfig
from agent.scu.worklist import WORKLIST_CONTEXT, orders_of
from agent.serve.commands.comparison import compared
from agent.serve.commands.models import verify_bundle
from agent.serve.commands.own_listener import probe_own_listener
from agent.serve.composition.auditing import verify_trail
from agent.serve.composition.bundles import bundle_of, shadow_of
from agent.serve.composition.context import GIGABYTE, broker_of, check_tls, layout_of, ledger_of
from agent.serve.composition.dicom import files_of, scu_of
from agent.serve.composition.messaging import receivers_of
from agent.serve.composition.tracing import tracer_of
from agent.settings import Settings
from agent.store.instance_files import in_gigabytes
from agent.worklist import reading
from agent.worklist import tables as t
from inference.reference import read_reference

Finding = dict[str, Any]
_WARN_DAYS: Final = 30
"""So long before a certificate ends it is told: time to get another signed."""
_POSTGRESQL: Final = "check database.url, and that PostgreSQL runs and lets us in"


def examine(settings: Settings, *, deep: bool) -> list[Finding]:
    """Run every check; one that fails never hides another."""
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        _disk,
        _certificates,
        _expiry,
        _listener,
        _ledger,
        _broker,
        _model,
        _watch,
        _worklist,
        _archives,
        _worklists,
        _messages,
        _tracing,
    ]
    if deep:
        checks.append(_files)
    return [finding for check in checks for finding in _safely(check, settings)]


def _safely(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except LedgerError as error:  # whose remedy elsewhere is to ask us
        remedy = "see the disk below storage.data_dir" if settings.database.url is None else _POSTGRESQL
        return [_finding(check.__name__.strip("_"), False, " ".join(error.cause.split()), remedy)]
    except AgentError as error:
        return [_finding(check.__name__.strip("_"), False, error.cause, error.remedy)]


def _finding(subject: str, ok: bool, message: str, remedy: str = "", *, warning: bool = False) -> Finding:
    """Compose a finding; a warning is no fault yet, and has a remedy all the same."""
    return {"subject": subject, "ok": ok, "warning": warning, "message": message, "remedy": remedy}


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = layout_of(settings).data_dir
    free_bytes = shutil.disk_usage(folder).free
    free, told = free_bytes / GIGABYTE, in_gigabytes(free_bytes)
    enough = free >= settings.storage.min_free_gb
    message = f"{told} free in {folder}; C-STORE answers A700 below {settings.storage.min_free_gb:g} GB"
    yield _finding("disk", enough, message, "make room, or lower storage.min_free_gb")
    if enough:
        low = f"{told} free, storage.warn_free_gb is {settings.storage.warn_free_gb:g}"
        yield _finding(
            "disk watermark", free >= settings.storage.warn_free_gb, low, "make room, or set storage.keep_gb"
        )


def _certificates(settings: Settings) -> Iterator[Finding]:
    if settings.dicom.tls_cert is None:
        return
    check_tls(settings)
    asked = f"peers must be signed by {settings.dicom.tls_ca}" if settings.dicom.tls_ca else "peers need no certificate"
    yield _finding("TLS", True, f"{settings.dicom.tls_cert} and its key go together; {asked}")


def _expiry(settings: Settings) -> Iterator[Finding]:
    """Look until when the certificates that we show and trust are valid."""
    files = (
        ("dicom.tls_cert", settings.dicom.tls_cert, "renew it with its key"),
        ("dicom.tls_ca", settings.dicom.tls_ca, "put the authority's new certificate into the file, the old one out"),
        ("messages.tls_ca", settings.messages.tls_ca, "put the authority's new certificate into the file"),
    )
    for name, path, remedy in files:
        if path is not None:
            subject = f"certificate {name}"
            try:
                yield _validity(subject, path, validities_in(path), f"{remedy}, and restart `agent serve`")
            except AgentError as error:
                yield _finding(subject, False, error.cause, f"{name}: {error.remedy}")


def _validity(subject: str, path: Path, found: tuple[Validity, ...], remedy: str) -> Finding:
    """Judge a file by the certificate of it that ends first."""
    now, begins, ends = datetime.now(UTC), max(one.begins for one in found), min(one.ends for one in found)
    which = f"{path}" if len(found) == 1 else f"{path}, of {len(found)} certificates the first to end,"
    if ends <= now:
        return _finding(subject, False, f"{which} expired on {ends:%Y-%m-%d}", remedy)
    if begins > now:
        late = f"{path} is not valid before {begins:%Y-%m-%d %H:%M} UTC"
        return _finding(subject, False, late, "check this machine's clock, or wait")
    left, until = (ends - now).days, f"{which} is valid until {ends:%Y-%m-%d}"
    if left < _WARN_DAYS:
        return _finding(subject, True, f"{until}, {left} days from now", remedy, warning=True)
    return _finding(subject, True, until)


def _listener(settings: Settings) -> Iterator[Finding]:
    found = probe_own_listener(settings)
    yield _finding(found.subject, found.ok, found.message, found.remedy)


def _ledger(settings: Settings) -> Iterator[Finding]:
    ledger = ledger_of(settings)
    with ledger.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(t.instances)).scalar_one()
    yield _finding("ledger", True, f"{ledger.url.render_as_string(hide_password=True)}, {count} instances")


def _broker(settings: Settings) -> Iterator[Finding]:
    embedded = settings.broker.url is None
    url = broker_of(settings).replace("redis+socket://", "unix://")
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            version = client.info("server").get("server_name", "redis")
    except (redis.RedisError, OSError) as error:
        remedy = "is `agent serve` running?" if embedded else "check broker.url and that the server runs"
        yield _finding("broker", False, f"does not answer: {error}", remedy)
        return
    yield _finding("broker", True, f"{'embedded' if embedded else 'configured'} {version} answers")


def _model(settings: Settings) -> Iterator[Finding]:
    bundle = bundle_of(settings.model.bundle)
    entry = verify_bundle(settings, None)
    message = f"{bundle.name} {bundle.version} ({len(bundle.members)} members); {entry['worst']}"
    yield _finding("model", entry["ok"], message, "reinstall the bundle")
    others = "; ".join(entry["tried"]) or "no other engine was asked for"
    yield _finding("engine", True, f"{entry['backend']} {entry['precision']}, of {others}")


def _watch(settings: Settings) -> Iterator[Finding]:
    _reference, told = read_reference(settings.model.bundle, bundle_of(settings.model.bundle).digest)
    yield _finding("drift reference", True, told)
    if settings.model.shadow_bundle is not None:
        shadow_of(settings)
        bundle = bundle_of(settings.model.shadow_bundle)
        yield _finding(
            "shadow", True, f"{bundle.name} {bundle.version} scores beside the live bundle, and sends nothing"
        )


def _worklist(settings: Settings) -> Iterator[Finding]:
    counts = reading.counts(ledger_of(settings))
    waiting = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    yield _finding("worklist", counts["failed"] == 0, waiting or "empty", "see `agent worklist --state failed`")


def _archives(settings: Settings) -> Iterator[Finding]:
    query = () if settings.archive.query is None else (settings.archive.query,)
    for archive in dict.fromkeys((*settings.results.destinations, *query)):
        for found in probe_archive(archive, scu_of(settings), retrieve=archive in query):
            yield _finding(found.subject, found.ok, found.message, found.remedy)
    if not settings.results.destinations:
        yield _finding("archive", True, "no destination: results are kept here only")


def _worklists(settings: Settings) -> Iterator[Finding]:
    """Ask for an order and for steps that nobody has: what answers with none answers."""
    orders, steps, scu = settings.worklist.query, settings.worklist.perform, scu_of(settings)
    if orders is not None:
        subject = f"{orders} Modality Worklist"
        yield _asked(subject, orders, scu, WORKLIST_CONTEXT, lambda association: orders_of(association, "-"))
    if steps is not None:
        wanted = {"code": settings.worklist.perform_code, "label": settings.worklist.perform_label}
        subject = f"{steps} Unified Procedure Steps"
        yield _asked(subject, steps, scu, PULL_CONTEXT, lambda association: waiting_steps(association, **wanted))


def _asked(
    subject: str, peer: Archive, scu: ScuConfig, context: Context, ask: Callable[[OpenAssociation], Iterator[object]]
) -> Finding:
    try:
        with associate(peer, scu, [context]) as association:
            return _finding(subject, True, f"answers, {len(list(ask(association)))} found")
    except AgentError as error:
        return _finding(subject, False, error.cause, error.remedy)


def _messages(settings: Settings) -> Iterator[Finding]:
    for address, receiver in receivers_of(settings):
        try:
            yield _finding(address, True, receiver.probe())
        except AgentError as error:
            yield _finding(address, False, error.cause, error.remedy)


def _tracing(settings: Settings) -> Iterator[Finding]:
    tracer = tracer_of(settings, ledger_of(settings))
    if tracer is not None:
        yield _finding("tracing", True, tracer.probe())


def _files(settings: Settings) -> Iterator[Finding]:
    """Compare the ledger with the files, both ways, and the audit trail with its own chain."""
    for comparison in compared(ledger_of(settings), layout_of(settings), files_of(settings)):
        yield _finding(comparison.subject, not comparison.names, comparison.told, comparison.remedy)
    trail = verify_trail(settings)
    told = trail["fault"] or f"{trail['records']} records, {trail['torn']} torn by crashes"
    yield _finding("audit trail", trail["ok"], told, "somebody changed it: compare with what audit.syslog received")
