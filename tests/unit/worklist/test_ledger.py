"""The ledger's own promises."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from agent.domain.errors import LedgerError, SettingsError
from agent.worklist import ledger as module
from agent.worklist import tables as t
from agent.worklist.ledger import HEAD_REVISION, Ledger, Prepared
from agent.worklist.ledger_faults import fault_of
from agent.worklist.tables import metadata
from tests.unit.worklist.conftest import Scene


def test_migrations_make_the_tables(scene: Scene) -> None:
    with scene.ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_head_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD_REVISION


def test_preparing_twice_changes_nothing(scene: Scene) -> None:
    scene.arrive()
    scene.ledger.prepare()
    scene.ledger.migrate()
    assert scene.arrive().new is False


def test_every_connection_has_the_settings_that_durability_needs(tmp_path: Path) -> None:
    ledger = Ledger.in_folder(tmp_path / "ledger.sqlite")
    for _ in range(2):
        with ledger.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    ledger.close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder"
    mounts = [f"disk {tmp_path} ext4 rw 0 0", f"host:/share {tmp_path}/a\\040folder nfs4 rw 0 0"]
    monkeypatch.setattr(module, "_mounts", lambda: mounts)
    with pytest.raises(SettingsError, match="network file system"):
        Ledger.in_folder(folder / "ledger.sqlite")
    Ledger.in_folder(tmp_path / "ledger.sqlite").close()


def test_an_error_rolls_back_and_is_named(scene: Scene) -> None:
    twice = "INSERT INTO leases (name, owner, until) VALUES ('x', 'y', 1), ('x', 'y', 1)"
    with pytest.raises(LedgerError), scene.ledger.write() as connection:
        connection.exec_driver_sql(twice)
    with scene.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM leases").scalar() == 0


def test_a_look_by_prepared_statements_sees_each_commit_and_names_errors(scene: Scene) -> None:
    counted = Prepared(sa.select(sa.func.count()).select_from(t.instances))
    with scene.ledger.read_prepared() as connection:
        assert counted.run(connection, {}).fetchone()[0] == 0
        scene.arrive()
        assert counted.run(connection, {}).fetchone()[0] == 1
    broken = Prepared(sa.select(sa.column("nowhere")).select_from(sa.table("nothing")))
    with pytest.raises(LedgerError, match="nothing"), scene.ledger.read_prepared() as connection:
        broken.run(connection, {})
    with scene.ledger.read_prepared() as connection:
        assert counted.run(connection, {}).fetchone()[0] == 1


def test_connections_that_are_kept_leave_the_pool_to_others(scene: Scene) -> None:
    with ExitStack() as crowd:
        for _ in range(scene.ledger._writer.pool.size() + 10):  # with what SQLAlchemy lets it overflow: all there are
            crowd.enter_context(scene.ledger.read_prepared())

    def write() -> None:
        with scene.ledger.write() as connection:
            connection.execute(sa.select(1))

    with ThreadPoolExecutor(1) as other:
        other.submit(write).result(timeout=5)


def test_tables_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    ledger = Ledger.in_folder(tmp_path / "ledger.sqlite")
    ledger.prepare()
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_of_tomorrow'")
    with pytest.raises(SettingsError, match="newer version"):
        ledger.prepare()
    ledger.close()


def test_a_durable_commit_leaves_the_next_as_they_were(tmp_path: Path) -> None:
    ledger = Ledger.in_folder(tmp_path / "ledger.sqlite")
    found = []
    for durable in (False, True, False):
        with ledger.write_prepared(durable=durable) as driver:
            found.append(driver.connection.cursor().execute("PRAGMA synchronous").fetchone()[0])
    assert found == [1, 2, 1]  # NORMAL, FULL, NORMAL
    ledger.close()


@pytest.mark.parametrize(
    ("spoil", "said", "remedy"),
    [
        (lambda path: path.write_bytes(b"no database" * 200), "file is not a database", "restore it from a backup"),
        (lambda path: path.mkdir(), "unable to open database file", "as the user that `agent serve` runs as"),
        (lambda path: _with_revision(path), "no such table: work_items", "agent migrate"),
    ],
)
def test_a_ledger_that_cannot_be_used_says_where_it_is_why_and_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], object], said: str, remedy: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    spoil(path)
    environment = {**os.environ, "AGENT_STORAGE__DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "agent", "worklist"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"agent: the ledger {path} cannot be used: {said} (")
    assert remedy in line


def _with_revision(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (HEAD_REVISION,))
        connection.commit()


def test_a_postgresql_that_is_away_is_named_without_its_password() -> None:
    ledger = Ledger("postgresql+psycopg://agent:secret@127.0.0.1:1/steatosis")
    with pytest.raises(LedgerError) as caught, ledger.read():
        pass
    assert str(caught.value).startswith(
        "the ledger (PostgreSQL database steatosis at 127.0.0.1:1) cannot be used: connection"
    )
    assert str(caught.value).endswith("(is PostgreSQL running, and can it be reached from here as database.url says?)")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('connection failed: FATAL:  password authentication failed for user "agent"', "user and password"),
        ('connection failed: FATAL:  database "steatosis" does not exist', "user and name in database.url"),
        ('relation "work_items" does not exist\nLINE 1: select', "agent migrate"),
        ("could not extend file: No space left on device", "make room"),
        ("what nobody has heard of\nDETAIL: Key (patient_id)=(P1)", "see `agent doctor`"),
    ],
)
def test_what_postgresql_says_has_its_remedy_and_tells_no_values(said: str, remedy: str) -> None:
    error = fault_of(RuntimeError(said), sa.make_url("postgresql+psycopg:///steatosis"))
    assert remedy in error.remedy
    assert error.cause.startswith("the ledger (PostgreSQL database steatosis at the local socket:5432) cannot be used")
    assert "\n" not in error.cause
    assert "P1" not in error.cause
