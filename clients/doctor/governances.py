"""Is what answers at governance's address this node's governance?"""

from collections.abc import Iterator

from clients.doctor.findings import Circumstances, Finding, failure, ok, passing
from clients.handovers import KeyStore
from fedcore.errors import FedError


def check_governance(found: Circumstances) -> Iterator[Finding]:
    """Ask governance for its realm and key; both are compared, neither is trusted."""
    if not found.has_state:
        return  # no journal to list the question in
    settings, about = found.settings, found.about
    if isinstance(about, FedError):
        yield passing(
            about.code,
            f"governance at {settings.governance_url} was not reached: {about.public}",
            "orders are refused once the bulletin is stale; mend what `tls` and `proxy` name",
        )
    elif about.realm is not settings.realm:
        yield failure(
            "document.other_realm",
            f"governance's realm is {about.realm}, this node's {settings.realm}",
            "mend `realm` or `governance_url` in the settings",
        )
    elif about.public_key != KeyStore(settings).load().current:
        yield passing(
            "governance.other_key",
            "governance signs with another key than this node knows",
            "if it has changed its key, `fedpact node sync` follows the signed hand-over; if not, "
            "this is not your governance: compare the key with its people by telephone",
        )
    else:
        yield ok("governance answers, in this realm, with the key that this node knows")
