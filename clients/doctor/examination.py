"""All checks in the order in which an operator would mend what they find."""

from collections.abc import Iterator
from dataclasses import dataclass

from clients import runtime
from clients.doctor.bulletins import check_bulletin
from clients.doctor.clocks import check_clock
from clients.doctor.disks import check_disk
from clients.doctor.enrolments import check_enrolment, check_membership
from clients.doctor.findings import Check, Circumstances, Finding, refused
from clients.doctor.governances import check_governance
from clients.doctor.keys import check_keys
from clients.doctor.ledgers import check_budget, check_journal, check_ledger
from clients.doctor.lines import check_lines
from clients.doctor.permissions import check_permissions
from clients.doctor.proxies import check_proxy
from clients.doctor.sources import check_contracts, check_source
from clients.doctor.versions import check_versions
from clients.durable import unwritable
from clients.settings import NodeSettings
from fedcore.errors import FedError

CHECKS: dict[str, Check] = {
    "keys": check_keys,
    "permissions": check_permissions,
    "disk": check_disk,
    "ledger": check_ledger,
    "journal": check_journal,
    "enrolment": check_enrolment,
    "proxy": check_proxy,
    "tls": check_lines,
    "governance": check_governance,
    "clock": check_clock,
    "membership": check_membership,
    "versions": check_versions,
    "source": check_source,
    "contracts": check_contracts,
    "bulletin": check_bulletin,
    "budget": check_budget,
}
# What a node cannot be started without; the others pass by themselves or while it runs.
_AT_START = (
    "keys",
    "permissions",
    "disk",
    "ledger",
    "journal",
    "enrolment",
    "tls",
    "governance",
    "clock",
    "versions",
)


@dataclass(frozen=True)
class Examined:
    """A finding and the check that it is of."""

    check: str
    finding: Finding


def examine(settings: NodeSettings) -> Iterator[Examined]:
    """Yield every finding, in order, as it is made; needs no torch and charges nothing.

    Governance is asked what `fedpact node sync` asks, with the same effect; nothing else changes.
    """
    yield from _examine(settings, tuple(CHECKS))


def verify_ready(settings: NodeSettings) -> None:
    """Refuse to start a node that could not work.

    Whatever may pass by itself while the node runs (a party that does not answer, a source that is
    not checked yet) does not hold it up.
    Raises: FedError with code, sentence and way out of the first failure.
    """
    for examined in _examine(settings, _AT_START):
        finding = examined.finding
        if finding.blocks:
            way_out = f": {finding.way_out}" if finding.way_out else ""
            raise FedError(finding.code or "node.unavailable", f"{finding.sentence}{way_out}")


def _examine(settings: NodeSettings, names: tuple[str, ...]) -> Iterator[Examined]:
    found = Circumstances(settings, runtime.SEAM.current(settings.realm).clock)
    for name in names:
        try:
            for finding in CHECKS[name](found):
                yield Examined(name, finding)
        except FedError as error:  # what a check does not foresee is told as it is
            yield Examined(name, refused(error))
        except OSError as error:
            told = unwritable("a file that the node needs", str(error))
            yield Examined(name, refused(told))
