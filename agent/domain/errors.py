"""One tree of errors: each says whose fault it is, whether trying again can help, and what the operator should do."""

from __future__ import annotations

from typing import ClassVar, Final

UNREADABLE: Final = (AttributeError, LookupError, TypeError, ValueError, NotImplementedError, EOFError)
"""What reading a peer's data set may raise: attributes that are missing, of another kind, or broken off."""


class AgentError(Exception):
    """Any fault the agent knows how to name.

    Parameters
    ----------
    cause
        What is wrong, with the offending value, in one sentence. Never patient data.
    remedy
        What the operator can do about it.
    """

    retriable: ClassVar[bool] = False
    """Whether the same step may succeed later without anybody's help."""
    exit_code: ClassVar[int] = 1
    """Exit status of a command that ends with this error (1 fault, 2 wrong use or settings, 3 not found)."""

    def __init__(self, cause: str, *, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause} ({self.remedy})" if self.remedy else self.cause


class SettingsError(AgentError):
    """The operator's settings are unknown, bad or impossible together."""

    exit_code: ClassVar[int] = 2


class NotFoundError(AgentError):
    """What was asked for is nowhere."""

    exit_code: ClassVar[int] = 3


class RequestorError(AgentError):
    """The sender's fault, answered with a DIMSE status.

    Parameters
    ----------
    status
        The C-STORE status to answer (PS3.4 Annex B.2.3).
    """

    def __init__(self, cause: str, *, status: int, remedy: str = "") -> None:
        super().__init__(cause, remedy=remedy)
        self.status = status


class IdentifierError(RequestorError):
    """A UID that must not name anything: C000 (Cannot understand)."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, status=0xC000, remedy="the sender must use UIDs of PS3.5 section 9")


class MismatchError(RequestorError):
    """The data set disagrees with its C-STORE command: A900 (Data Set does not match SOP Class)."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, status=0xA900, remedy="the sender's command and data set must name the same instance")


class StorageFullError(AgentError):
    """No room for another instance: A700 (Out of Resources)."""

    retriable: ClassVar[bool] = True
    status: ClassVar[int] = 0xA700


class LedgerError(AgentError):
    """The ledger could not be read or written."""

    retriable: ClassVar[bool] = True


class LostLeaseError(AgentError):
    """Another process owns the work item now; whatever was being done must not be recorded."""


class ArchiveError(AgentError):
    """An archive could not be reached or answered with a failure that may pass."""

    retriable: ClassVar[bool] = True


class AskedToWaitError(ArchiveError):
    """A server that may do it later says how much later.

    Parameters
    ----------
    seconds
        From now on; as it says, unbounded.
    """

    def __init__(self, cause: str, *, seconds: float, remedy: str = "") -> None:
        super().__init__(cause, remedy=remedy)
        self.seconds = seconds


class OutOfResourcesError(ArchiveError):
    """It answered A700 to A7FF: it has no room, for now."""


class ArchiveRefusedError(AgentError):
    """An archive refuses, and will refuse again until somebody changes its or our configuration."""
