"""The receivers of messages that are configured."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from agent.deliver.messages import Senders
from agent.domain.errors import SettingsError
from agent.domain.results import Proof
from agent.messaging.fhir import FhirProfile
from agent.messaging.fhir_server import FhirServer
from agent.messaging.mllp import Hl7Receiver
from agent.messaging.oru import OruProfile
from agent.settings import Settings
from agent.store.layout import Layout
from agent.tasks.messages import MessageSender
from agent.worklist.ledger import Ledger


def receivers_of(settings: Settings) -> Iterator[tuple[str, FhirServer | Hl7Receiver]]:
    """List who is told, by address.

    Raises
    ------
    SettingsError
        `messages.tls_ca` cannot be used.
    """
    wanted = settings.messages
    if wanted.fhir is not None:
        profile = FhirProfile(version=wanted.fhir_version, patient_system=wanted.fhir_patient_system)
        yield wanted.fhir, FhirServer(base=wanted.fhir, profile=profile, token=wanted.fhir_token, tls=_tls(settings))
    if wanted.hl7 is not None:
        oru = OruProfile(
            sending_application=settings.dicom.ae_title,
            sending_facility=wanted.hl7_facility,
            receiver=wanted.hl7_receiver,
        )
        yield wanted.hl7, Hl7Receiver(address=wanted.hl7, profile=oru, tls=_tls(settings))


def senders_of(settings: Settings, ledger: Ledger, layout: Layout) -> Senders:
    """Make what tells each of them."""
    proofs = {FhirServer: Proof.FHIR_READ, Hl7Receiver: Proof.HL7_ACK}
    return {
        address: MessageSender(ledger=ledger, layout=layout, tell=receiver.tell, proof=proofs[type(receiver)])
        for address, receiver in receivers_of(settings)
    }


def _tls(settings: Settings) -> ssl.SSLContext:
    """Trust the configured authority, or those of the system; the name is checked in either case."""
    authority = settings.messages.tls_ca
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise SettingsError(
            f"messages.tls_ca {authority} cannot be used: {error.strerror or error}", remedy="name a readable PEM file"
        ) from error
