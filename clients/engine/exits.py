"""Why a SuperNode ended: what Flower says in prose, as an exit code between our own processes."""

import re
from dataclasses import dataclass

from fedcore.errors import FedError

_FLOWER_CODE = re.compile(r"Exit Code: (\d+)\n")


@dataclass(frozen=True)
class Ending:
    """One way to end.

    Attributes:
        exit_code: of the SuperNode's process, above what Python and shells use themselves.
        code: the reason code for people.
        public: what happened, and the way out.
        lasting: whether starting again is of no use until somebody acts.
    """

    exit_code: int
    code: str
    public: str
    lasting: bool

    def error(self) -> FedError:
        """Return this ending as the product's error."""
        return FedError(self.code, self.public)


LOST = Ending(
    70,
    "superlink.lost",
    "the connection to the federation server ended; the node's log says how",
    lasting=False,
)
REFUSED = Ending(
    71,
    "superlink.not_admitted",
    "the federation server does not admit this node: its transport key is not registered there "
    "(its operator runs `fedpact server admit`), was revoked, or is in use by another process; or "
    "this machine's clock is wrong",
    lasting=True,
)
KEY_INVALID = Ending(
    72,
    "key.unreadable",
    "transport.key is no EC P-384 private key in OpenSSH format; restore it from its backup or run "
    "`fedpact node rotate`",
    lasting=True,
)
UNTRUSTED = Ending(
    73,
    "tls.untrusted",
    "the federation server's certificate does not come from the authority in superlink_ca; ask its "
    "operator for the authority's file",
    lasting=True,
)
EXPIRED = Ending(
    74,
    "tls.expired",
    "the federation server's certificate has expired, or this machine's clock is wrong",
    lasting=True,
)
NOT_YET_VALID = Ending(
    79,
    "tls.not_yet_valid",
    "the federation server's certificate does not count yet; compare this machine's clock",
    lasting=True,
)
OTHER_HOST = Ending(
    80,
    "tls.other_host",
    "the federation server's certificate is for another name than superlink; name the server as "
    "its certificate does",
    lasting=True,
)
OTHER_VERSION = Ending(
    75,
    "engine.other_version",
    "the federation server runs another Flower; both sides need the same minor version",
    lasting=True,
)
PORT_IN_USE = Ending(
    76,
    "port.in_use",
    "runtime_port is in use by another program; choose another one in the settings",
    lasting=True,
)
UNSUPPORTED = Ending(
    77,
    "engine.unsupported",
    "this release of fedpact cannot guard the installed Flower; the node's log names what differs",
    lasting=True,
)
MISCONFIGURED = Ending(
    78,
    "settings.invalid",
    "Flower does not accept the node's settings; the node's log says which",
    lasting=True,
)
ENDINGS = (
    LOST,
    REFUSED,
    KEY_INVALID,
    UNTRUSTED,
    EXPIRED,
    NOT_YET_VALID,
    OTHER_HOST,
    OTHER_VERSION,
    PORT_IN_USE,
    UNSUPPORTED,
    MISCONFIGURED,
)
_BY_FLOWER_CODE = {302: KEY_INVALID, 606: OTHER_VERSION, 600: MISCONFIGURED, 604: MISCONFIGURED}
_CONNECTION = 305
# In this order: what Python's ssl module says of a certificate, then of any other fault of TLS.
_SIGNS = (
    ("certificate has expired", EXPIRED),
    ("not yet valid", NOT_YET_VALID),
    ("hostname mismatch", OTHER_HOST),
    ("ip address mismatch", OTHER_HOST),
    ("certificate", UNTRUSTED),
    ("ssl", UNTRUSTED),
    ("[code: 2004]", REFUSED),
)
_USAGE = 2


def ending_of_exit(exit_code: int) -> Ending:
    """Return how a SuperNode's process ended; an exit code that is not ours counts as lost."""
    return next((ending for ending in ENDINGS if ending.exit_code == exit_code), LOST)


def exit_code_of(flower: str | int | None, words: Ending) -> int:
    """Return the exit code that tells what Flower's own tells together with its last words."""
    if not flower:
        return 0  # ended by a signal
    return MISCONFIGURED.exit_code if flower == _USAGE else words.exit_code


def decide_ending(message: str) -> Ending | None:
    """Return how a SuperNode ended, from the last words that Flower logged.

    Returns: None when the text is no such word.
    """
    found = _FLOWER_CODE.match(message)
    if not found:
        return None
    code = int(found[1])
    return _connection(message) if code == _CONNECTION else _BY_FLOWER_CODE.get(code, LOST)


def _connection(message: str) -> Ending:
    text = message.lower()
    return next((ending for sign, ending in _SIGNS if sign in text), LOST)
