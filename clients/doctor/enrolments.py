"""Is this unit enrolled, with these keys, and does governance still take what it signs?"""

from collections.abc import Iterator
from contextlib import closing

from clients.doctor.findings import Circumstances, Finding, failure, ok, passing, refused, warning
from clients.handovers import KeyStore
from clients.site import Site
from clients.state import NodeKeys
from fedcore.errors import FedError, UnreachableError
from fedcore.permits import UnitCertificate
from fedcore.signing import Envelope

_ENROL = "fedpact node enrol, hand the request to governance, then fedpact node accept its answer"


def check_enrolment(found: Circumstances) -> Iterator[Finding]:
    """Hold the kept certificate against the keys in use and against the settings."""
    if not found.has_state:
        return
    if not found.state.certificate.exists():
        yield failure("node.not_enrolled", "this node has no certificate of governance", _ENROL)
        return
    try:
        keys, certificate = found.state.keys(), _certificate(found)
    except FedError as error:
        yield refused(error)
        return
    yield from _compare(found, keys, certificate)


def check_membership(found: Circumstances) -> Iterator[Finding]:
    """Do what `fedpact node sync` does: only governance knows whether it still takes the keys."""
    if not found.has_state or not found.state.certificate.exists():
        return
    if isinstance(found.about, FedError):
        return  # told by the check of governance
    try:
        with closing(Site(found.settings)) as site:
            bulletin = site.synchronise()
        yield ok(f"governance takes what the node signs, up to entry {bulletin.witnessed.sequence}")
    except UnreachableError as error:
        yield passing(error.code, error.public, "try again")
    except FedError as error:
        yield refused(error)


def _certificate(found: Circumstances) -> UnitCertificate:
    envelope = Envelope.from_bytes(found.state.certificate.read_bytes())
    keys = KeyStore(found.settings).load()
    return keys.open(envelope, UnitCertificate, found.settings.realm)


def _compare(
    found: Circumstances, keys: NodeKeys, certificate: UnitCertificate
) -> Iterator[Finding]:
    settings = found.settings
    if certificate.unit != settings.unit:
        yield failure(
            "certificate.other_unit",
            f"the certificate is that of {certificate.unit}, the settings are {settings.unit}'s",
            "mend `unit` or `state_dir` in the settings",
        )
    elif (certificate.node_key, certificate.transport_key) != (keys.signing.public, keys.transport):
        yield failure(
            "certificate.other_node", "the certificate is for other keys than this node's", _ENROL
        )
    elif certificate.size_band != settings.size_band:
        yield warning(
            f"the certificate declares the size band {certificate.size_band}, the settings "
            f"{settings.size_band}; plans follow the certificate and are refused here",
            "mend `size_band` in the settings, or enrol again with the new band",
        )
    else:
        yield ok(f"{settings.unit} is enrolled since {certificate.issued_at:%Y-%m-%d}")
