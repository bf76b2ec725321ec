"""The ledger: one database, opened with the settings that our promises rest on.

SQLite runs in WAL mode with synchronous NORMAL: a power cut may take back the last commits, never corrupt; start-up
rebuilds the instance rows from the synced files and every other step is repeatable, but for what has left: the commit
after which objects may leave is a durable one. Writers take the write lock
when they begin (BEGIN IMMEDIATE), so a transaction that has read never fails to upgrade.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry

from agent.domain.errors import LedgerError, SettingsError
from agent.worklist.ledger_faults import fault_of

HEAD_REVISION: Final = "0008_history"
"""Newest migration in `migrations/versions`; a test holds that."""
_MIGRATION_LOCK: Final = 0x57EA7051
"""Key of the advisory lock under which PostgreSQL is migrated."""
_BUSY_MILLISECONDS: Final = 15_000
_VANISHED: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A PostgreSQL whose host is gone without a word is given up after 25 s, where the kernel would take up to two hours
(libpq's parameter key words; the last in ms). The URL may say otherwise."""
_MOST_KEPT: Final = 4
"""Connections that do not go back to the pool: it has 15, and who finds none waits up to 30 s for one."""
_NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs"})
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Ledger:
    """A connection pool to the ledger.

    Parameters
    ----------
    url
        SQLAlchemy URL: `sqlite:////path/ledger.sqlite` or `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writer = self._engine("BEGIN IMMEDIATE")
        self._reader = self._engine("BEGIN") if self.is_sqlite else self._writer
        self._kept: deque[sa.PoolProxiedConnection] = deque()  # its operations are atomic

    @classmethod
    def in_folder(cls, path: Path) -> Ledger:
        """Open the SQLite ledger in a file.

        Raises
        ------
        SettingsError
            If the file lies on a network file system, where SQLite's locks cannot be trusted.
        """
        kind = _file_system(path)
        if kind in _NETWORK_FILE_SYSTEMS:
            raise SettingsError(
                f"the SQLite ledger {path} would lie on a network file system ({kind})",
                remedy="set database.url to PostgreSQL, or storage.data_dir to a local disk",
            )
        return cls(f"sqlite:///{path}")

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction that writes; commits at the end, rolls back on any error."""
        with self._named_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent look."""
        with self._named_errors(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write_prepared(self, *, durable: bool = False) -> Iterator[Driver]:
        """One transaction that writes, for `Prepared` statements.

        With SQLite on a connection that is kept for it: to begin and end a transaction through SQLAlchemy takes longer
        than what an instance does in it.

        Parameters
        ----------
        durable
            No power cut takes it back, nor anything that was committed before it. PostgreSQL promises that always.
        """
        if not self.is_sqlite:
            with self.write() as connection:
                yield Driver(connection.dialect, connection.connection)
            return
        with self._kept_driver() as driver:
            if durable:  # a connection that fails meanwhile stays so: slower, and no less safe
                driver.execute("PRAGMA synchronous=FULL")
            driver.execute("BEGIN IMMEDIATE")
            yield driver
            self._commit(driver)
            if durable:
                driver.execute("PRAGMA synchronous=NORMAL")

    @contextmanager
    def read_prepared(self) -> Iterator[Driver]:
        """Look by `Prepared` statements, each of which sees what is committed at its moment.

        With SQLite on a connection that is kept, without a transaction around: for one small question, asked often.
        """
        if not self.is_sqlite:
            with self.read() as connection:
                yield Driver(connection.dialect, connection.connection)
            return
        with self._kept_driver() as driver:
            yield driver

    @contextmanager
    def _kept_driver(self) -> Iterator[Driver]:
        """Lend a connection, one that is kept where one is free; after an error it is given up."""
        with self._named_errors():
            kept = self._free()
        try:
            with self._named_errors(self._writer.dialect.loaded_dbapi.Error):
                yield Driver(self._writer.dialect, kept)
        except BaseException:
            kept.close()  # back to the pool, which rolls back
            raise
        if len(self._kept) < _MOST_KEPT:
            self._kept.append(kept)
        else:
            kept.close()

    @contextmanager
    def _named_errors(self, of_driver: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        try:
            yield
        except _DriverError as error:
            raise fault_of(error.__cause__, self.url) from error.__cause__
        except sa.exc.DBAPIError as error:
            raise fault_of(error.orig, self.url) from error
        except sa.exc.TimeoutError as error:  # of the pool
            raise fault_of(error, self.url) from error
        except of_driver as error:
            raise fault_of(error, self.url) from error

    def _free(self) -> sa.PoolProxiedConnection:
        try:
            return self._kept.pop()
        except IndexError:  # hundreds of threads may ask at once
            return self._writer.raw_connection()

    def _commit(self, driver: Driver) -> None:
        driver.execute("COMMIT")

    def prepare(self) -> None:
        """Bring the tables to this version's shape if they are not; a look that costs a millisecond if they are."""
        with self.read() as connection:
            known = self._has_revision(connection)
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if known else None
        if revision != HEAD_REVISION:
            self.migrate()

    def _has_revision(self, connection: sa.Connection) -> bool:
        if self.is_sqlite:  # a question of its own: what inspects any database takes 10 ms to load
            known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
            return connection.exec_driver_sql(known).first() is not None
        return sa.inspect(connection).has_table("alembic_version")

    def migrate(self) -> None:
        """Run the migrations.

        Raises
        ------
        SettingsError
            The tables were made by a newer version.
        """
        from alembic import command  # here, because it is slow to load and needed once a release
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self.write() as connection:
            if not self.is_sqlite:  # hosts that start together migrate one after another
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise SettingsError(
                    "the ledger has the tables of another, newer version of the agent",
                    remedy="install that version here, too, or restore the backup that was made before the upgrade",
                ) from error

    def close(self) -> None:
        """Close every pooled connection."""
        while self._kept:
            self._kept.pop().close()
        self._writer.dispose()
        self._reader.dispose()

    def _engine(self, begin: str) -> sa.Engine:
        if not self.is_sqlite:
            patience = {key: value for key, value in _VANISHED.items() if key not in self.url.query}
            return sa.create_engine(self.url, pool_pre_ping=True, connect_args=patience)
        engine = sa.create_engine(self.url, connect_args={"timeout": _BUSY_MILLISECONDS / 1000})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine


class _DriverError(Exception):
    """Carries an error of the driver's own out of its transaction, where it is known which ledger that is."""


@dataclass(frozen=True)
class Driver:
    """The driver's own connection within a transaction."""

    dialect: sa.Dialect
    connection: sa.PoolProxiedConnection

    def execute(self, text: str) -> None:
        """Run a statement without values."""
        self.connection.cursor().execute(text)


class Prepared:
    """A statement compiled once for each kind of database and run on the driver's own cursor.

    For what is done at every instance: SQLAlchemy's share of a small statement is three quarters of its time. Values go
    in and come out as the driver has them, so it suits text, numbers and truth values only.
    """

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, dict[str, Any], list[str] | None]] = {}

    def run(self, connection: sa.Connection | Driver, values: Mapping[str, Any]) -> Any:
        """Run within a transaction; returns the driver's cursor.

        Whatever the driver raises, the transaction around makes a LedgerError of.
        """
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = self._compile(dialect)
        text, constants, order = self._compiled[dialect.name]
        given = {**constants, **values}
        try:
            cursor = connection.connection.cursor()
            cursor.execute(text, given if order is None else [given[name] for name in order])
        except dialect.loaded_dbapi.Error as error:
            raise _DriverError from error
        return cursor

    def _compile(self, dialect: sa.Dialect) -> tuple[str, dict[str, Any], list[str] | None]:
        compiled = self._statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every statement has it
        order = list(compiled.positiontup) if compiled.positional else None
        return str(compiled), dict(compiled.params), order


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    """Set and read back what durability depends on: a pooled connection must not silently differ."""
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    _switch_to_wal(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"):
        cursor.execute(f"PRAGMA {pragma}")
    mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    cursor.close()
    if (mode, synchronous) != ("wal", 1):
        raise LedgerError(
            f"SQLite runs with journal_mode={mode}, synchronous={synchronous} instead of wal, 1",
            remedy="put storage.data_dir on a local file system that supports shared memory",
        )


def _switch_to_wal(cursor: Any) -> None:
    """Switch a new database to WAL; SQLite does not wait by itself where another process is at it, too."""
    deadline = time.monotonic() + _BUSY_MILLISECONDS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _file_system(path: Path) -> str:
    """Type of the file system under a path that need not exist yet."""
    resolved = path.resolve()
    mounts = dict(map(_mount, _mounts()))
    return next((mounts[str(place)] for place in (resolved, *resolved.parents) if str(place) in mounts), "")


def _mounts() -> list[str]:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux, or hidden
        return []


def _mount(line: str) -> tuple[str, str]:
    """Read mount point and type from a line of fstab(5), where a blank is written in octal."""
    _, place, kind = line.split(" ", 3)[:3]
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place), kind
