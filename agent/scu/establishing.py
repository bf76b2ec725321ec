"""Why an association did not come about, each cause with its remedy."""

from __future__ import annotations

import ssl
from typing import Final

from pynetdicom.association import Association

from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError
from agent.domain.identifiers import Archive
from agent.scu.config import ScuConfig
from agent.scu.outcomes import CONTEXT_RESULTS, Verdict, rejection
from agent.scu.transport import REQUEST, NoConnectionError, Witness


def not_established(archive: Archive, scu: ScuConfig, raw: Association, witness: Witness) -> AgentError:
    """Make the error of an association that was asked for and is not there."""
    if witness.connect_error is not None:
        return no_connection(archive, scu, witness.connect_error)
    if witness.rejection is not None:
        result, source, reason = witness.rejection
        return rejection(str(archive), scu.ae_title, result=result, source=source, reason=reason)
    if raw.rejected_contexts and not raw.accepted_contexts:
        refused = {context.result or 0 for context in raw.rejected_contexts}
        results = [CONTEXT_RESULTS.get(result, (Verdict.FAILED, "it did not say why")) for result in sorted(refused)]
        may_pass = any(verdict is Verdict.RETRY for verdict, _ in results)
        kind: type[AgentError] = ArchiveError if may_pass else ArchiveRefusedError
        words = ", ".join(words for _, words in results)
        return kind(f"{archive} accepts none of what we offer: {words}", remedy="allow our SOP classes at the archive")
    return witness.cause_of(str(archive), REQUEST, scu.timeouts.negotiate)


_RUNNING: Final = "is it running, and are host and port right?"
_CONNECT_FAULTS: Final[tuple[tuple[type[OSError], str, str], ...]] = (
    (ConnectionRefusedError, "connection refused by {archive}", _RUNNING),
    (
        ssl.SSLCertVerificationError,
        "we do not trust the TLS certificate of {archive}",
        "the authority in dicom.tls_ca must have signed it",
    ),
    (ssl.SSLError, "TLS with {archive} failed", "does the archive speak TLS, and trust our certificate?"),
    (TimeoutError, "no connection to {archive} within {seconds:g} s", _RUNNING),
    (ConnectionResetError, "connection reset by {archive}", _RUNNING),
    (OSError, "no connection to {archive}", _RUNNING),
)


def no_connection(archive: Archive, scu: ScuConfig, error: OSError) -> NoConnectionError:
    """Make the error of a connection that did not come about."""
    sentence, remedy = next((words, remedy) for kind, words, remedy in _CONNECT_FAULTS if isinstance(error, kind))
    detail = getattr(error, "reason", None)
    if type(error) is OSError:
        detail = error.strerror
    cause = sentence.format(archive=archive, seconds=scu.timeouts.connect)
    return NoConnectionError(cause + (f" ({detail})" if detail else ""), remedy=remedy)
