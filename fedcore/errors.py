"""Every error of the product, as one tree.

    FedError(code, public, detail)
    ├── InvalidRecordError   a document or argument is malformed
    ├── TrustError           a document is well-formed but must not be believed
    │   ├── SignatureError   wrong key, role, realm or bytes
    │   ├── ExpiredError     outside its validity
    │   ├── RollbackError    older than something already seen
    │   └── MismatchError    contradicts another signed document
    ├── RefusedError         a rule says no; carries all reason codes
    │   ├── TransitionError  a state machine says no
    │   └── BudgetError      the privacy budget says no
    ├── ForbiddenError       the caller may not do this
    ├── NotFoundError        no such thing
    ├── ConflictError        contradicts the present state
    ├── DataError            customer data break the contract; stays on the node
    └── UnreachableError     another party does not answer

Mapped to the outside at three rims only: `governance.problems` (problem+json), `fedcore.cli` (exit
code and one sentence) and `clients.guard` (a bare code).
"""

from collections.abc import Sequence


class FedError(Exception):
    """An error with a stable reason code.

    Args:
        code: `subject.problem`, stable over versions.
        public: one sentence for the caller: what, which rule, the way out; never a customer's
        value. detail: for this machine's log only; never sent.
    """

    def __init__(self, code: str, public: str, detail: str = "") -> None:
        super().__init__(f"{public} ({code})")
        self.code = code
        self.public = public
        self.detail = detail

    @property
    def codes(self) -> tuple[str, ...]:
        """All reason codes, the first one being `code`."""
        return (self.code,)


class InvalidRecordError(FedError):
    """A document or argument is malformed."""


class TrustError(FedError):
    """A document is well-formed but must not be believed."""


class SignatureError(TrustError):
    """Wrong key, role, realm or bytes."""


class ExpiredError(TrustError):
    """A document is used outside its validity."""


class RollbackError(TrustError):
    """A state is older than one that was already seen."""


class MismatchError(TrustError):
    """A document contradicts another signed document."""


class RefusedError(FedError):
    """A rule says no.

    Args:
        reasons: every (code, sentence) that speaks against it, at least one, in the order of the
        rules.
    """

    def __init__(self, reasons: Sequence[tuple[str, str]], detail: str = "") -> None:
        super().__init__(reasons[0][0], " ".join(text for _, text in reasons), detail)
        self.reasons = tuple(reasons)

    @property
    def codes(self) -> tuple[str, ...]:
        """The reason codes of all rules that refused."""
        return tuple(code for code, _ in self.reasons)


class TransitionError(RefusedError):
    """A state machine does not allow this act, now, by this person."""


class BudgetError(RefusedError):
    """The privacy budget does not allow this charge."""


class ForbiddenError(FedError):
    """The caller may not do this."""


class NotFoundError(FedError):
    """There is no such thing."""


class ConflictError(FedError):
    """The request contradicts the present state."""


class DataError(FedError):
    """Customer data break the contract: names columns and rules, no values; stays on the node."""


class UnreachableError(FedError):
    """Another party does not answer."""
