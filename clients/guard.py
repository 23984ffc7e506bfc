"""The node's error rim: what goes wrong inside becomes a bare reason code, and nothing else leaves.

Flower sends an exception's text to the server; nothing raised inside this rim ever reaches it.
"""

import traceback
from collections.abc import Callable
from pathlib import Path

import structlog
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedcore.errors import FedError
from fedcore.wire import Refusal, refusal_message

Recorder = Callable[[Message, Message, Context], None]
UNAVAILABLE = "node.unavailable"
PUBLIC_CODES = frozenset(
    {
        "budget.exceeded",
        "budget.exchanges_exceeded",
        "budget.permit_exceeded",
        "bulletin.stale",
        "clustering.placement_invalid",
        "contract.purpose_unknown",
        "evaluation.no_scores",
        "evaluation.no_segments",
        "evaluation.not_held_out",
        "evaluation.other_segments",
        "evaluation.other_training",
        "evaluation.terms_differ",
        "log.forked",
        "log.cosignatures_missing",
        "log.foreign_cosignature",
        "order.attempts_exceeded",
        "order.compared_mismatch",
        "order.expired",
        "order.model_mismatch",
        "order.old",
        "order.other_permit",
        "order.other_realm",
        "order.other_unit",
        "order.replayed",
        "order.report_mismatch",
        "order.report_missing",
        "order.round_out_of_range",
        "order.run_closed",
        "order.swept",
        "order.unanswered",
        "permit.early",
        "permit.expired",
        "permit.key_retired",
        "permit.other_kind",
        "permit.other_node",
        "permit.other_plan",
        "permit.other_realm",
        "permit.other_run",
        "permit.renewal_differs",
        "permit.revoked",
        "permit.terms_differ",
        "permit.version_not_accepted",
        "plan.absence_unfit",
        "plan.absence_unsaid",
        "plan.model_unfit",
        "plan.undated",
        "policy.cohort_too_small",
        "policy.delta_differs",
        "policy.epsilon_too_large",
        "policy.group_not_allowed",
        "policy.maintenance",
        "policy.public_n_differs",
        "policy.purpose_not_allowed",
        "policy.sensitive_input",
        "policy.server_version_not_accepted",
        "policy.task_not_allowed",
        "policy.training_group_not_allowed",
        "run.not_ended",
        "segments.model_invalid",
        "segments.model_too_large",
        "segments.model_unreadable",
        "segments.other_features",
        "segments.other_terms",
        "signature.invalid",
        "signature.key_retired",
        "signature.wrong_key",
        "signature.wrong_type",
        "weights.not_finite",
        "weights.out_of_bounds",
        "weights.too_large",
        "weights.unreadable",
        "weights.wrong_shape",
        "wire.malformed",
    }
)

log = structlog.get_logger("fedpact.node")


class GuardedClientApp(ClientApp):
    """A Flower ClientApp whose every failure is answered with one code, and whose every answer is
    listed before it leaves.

    Guarantees: a code outside `PUBLIC_CODES` (all of which are functions of signed documents,
        settings and time) leaves as `node.unavailable`; no exception text, value or count leaves.
        Nor are an unforeseen exception's text and variables logged. An answer that cannot be listed
        is held back, and the bare `node.unavailable` leaves in its place: to say nothing at all
        would be a message of the engine's, with more in it.

    Args:
        record: lists an answer, given as (request, answer, context), or raises.
    """

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self._record = record

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message; raises nothing but what ends the process."""
        answer = super().__call__
        reply = _guarded(message, lambda: answer(message, context), PUBLIC_CODES)

        def listed() -> Message:
            self._record(message, reply, context)
            return reply

        return _guarded(message, listed, frozenset())


def _guarded(message: Message, act: Callable[[], Message], public: frozenset[str]) -> Message:
    """Return what `act` returns, or a refusal with one code, `node.unavailable` unless public."""
    try:
        return act()
    except FedError as error:
        code = error.code if error.code in public else UNAVAILABLE
        log.warning("refused", code=error.code, sent=code, public=error.public, detail=error.detail)
    except (KeyboardInterrupt, SystemExit):
        raise  # the process is told to end: nothing is sent
    except BaseException as error:  # noqa: BLE001 - the error rim; a panic is no Exception
        code = UNAVAILABLE
        kind = type(error).__name__
        log.error("failed", sent=code, kind=kind, where=_places(error))  # noqa: TRY400
    return refusal_message(Refusal(code), message)


def _places(error: BaseException) -> list[str]:
    """Return the lines that an error came through; neither its text nor variables: both hold rows
    and keys.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
