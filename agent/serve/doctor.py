"""`agent doctor`: look at everything that a study meets on its way, and say the true cause of each fault."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import redis
import sqlalchemy as sa

from agent.deliver.probe import probe_archive
from agent.domain.errors import AgentError
from agent.serve.bundles import bundle_of
from agent.serve.context import GIGABYTE, broker_of, layout_of, ledger_of
from agent.serve.dicom import files_of, scu_of
from agent.serve.models import verify_bundle
from agent.settings import Settings
from agent.worklist import reading
from agent.worklist import tables as t

Finding = dict[str, Any]
_CHUNK: Final = 1 << 20


def examine(settings: Settings, *, deep: bool) -> list[Finding]:
    """Run every check; one that fails never hides another."""
    checks: list[Callable[[Settings], Iterator[Finding]]] = [_disk, _ledger, _broker, _model, _worklist, _archives]
    if deep:
        checks.append(_files)
    return [finding for check in checks for finding in _safely(check, settings)]


def _safely(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except AgentError as error:
        return [_finding(check.__name__.strip("_"), False, error.cause, error.remedy)]


def _finding(subject: str, ok: bool, message: str, remedy: str = "") -> Finding:
    return {"subject": subject, "ok": ok, "message": message, "remedy": remedy}


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = layout_of(settings).data_dir
    free = shutil.disk_usage(folder).free / GIGABYTE
    enough = free >= settings.storage.min_free_gb
    message = f"{free:.1f} GB free in {folder}; C-STORE answers A700 below {settings.storage.min_free_gb:g} GB"
    yield _finding("disk", enough, message, "make room, or lower storage.min_free_gb")


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


def _files(settings: Settings) -> Iterator[Finding]:
    """Compare the ledger with the files: every row has a whole file, every file a row."""
    layout, ledger = layout_of(settings), ledger_of(settings)
    objects = t.result_objects.c
    with ledger.read() as connection:
        digests = list(connection.execute(sa.select(t.instances.c.sha256)).scalars())
        kept = connection.execute(sa.select(objects.result_key, objects.sop_instance_uid, objects.sha256)).all()
    files = files_of(settings)
    missing = [sha256 for sha256 in digests if not layout.instance(sha256).exists()]
    changed = [sha256 for sha256 in set(digests) - set(missing) if files.digest_of(sha256) != sha256]
    stray = [path for path in layout.instances.glob("*/*.dcm") if path.stem not in set(digests)]
    spoilt = [uid for key, uid, sha256 in kept if _sha256(layout.result_folder(key) / f"{uid}.dcm") != sha256]
    yield _finding("instance rows without file", not missing, _some(missing), "replay them with --from archive")
    yield _finding("instance files changed", not changed, _some(changed), "replay them with --from archive")
    yield _finding("instance files without row", not stray, _some([p.name for p in stray]), "restart `agent serve`")
    yield _finding("result files missing or changed", not spoilt, _some(spoilt), "replay their studies")


def _some(names: list[str]) -> str:
    return f"{len(names)}" + (f", first {names[0]}" if names else "")


def _sha256(path: Path) -> str | None:
    if not path.exists():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
