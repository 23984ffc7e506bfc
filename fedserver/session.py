"""What a run is about, after it was verified like anyone else would."""

from dataclasses import dataclass

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.errors import MismatchError
from fedcore.gateway import ServerGateway
from fedcore.handovers import GovernanceKeys
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, open_envelope
from fedcore.tasks.task import initial_weights, load_task, shapes_of
from fedcore.trust import verify_permit
from fedcore.weights import Shapes, Weights, encode_weights
from fedserver.keys import fetch_keys


@dataclass(frozen=True)
class Session:
    """One permitted run: documents as they are sent on, their contents, and the public first
    model.
    """

    permit_envelope: Envelope
    plan_envelope: Envelope
    permit: Permit
    plan: TrainingPlan
    keys: GovernanceKeys
    key: SigningKey
    initial: Weights
    shapes: Shapes


def open_session(
    gateway: ServerGateway,
    governance_key: str,
    key: SigningKey,
    realm: Realm,
    names: tuple[str, str],
) -> Session:
    """Return the session of a plan and run id (`names`), with a permit that was asked for and
    verified. `governance_key` is the one of the settings; governance may have handed over since.

    Raises: RefusedError with the gate's reason codes; TrustError when a document must not be
        believed; MismatchError `plan.initial_model_differs` when the installed task makes another
        first model.
    """
    plan_digest, run_id = names
    permit_envelope = gateway.request_permit(plan_digest, run_id)
    keys = fetch_keys(gateway, governance_key, realm)
    permit = keys.open(permit_envelope, Permit, realm)
    plan_envelope = gateway.fetch_plan(plan_digest)
    plan = open_envelope(plan_envelope, TrainingPlan, permit.author_key, realm)
    verify_permit(permit, plan, run_id, realm)
    if permit.server_key != key.public:
        raise MismatchError("permit.other_server", "the permit names another server's key")
    contract = keys.open(gateway.fetch_contract(plan.contract), Contract, realm)
    task, inputs = load_task(plan.task), len(input_names(plan.features, contract))
    initial = initial_weights(task, plan.model, inputs)
    if canonical.digest(encode_weights(initial)) != plan.initial_model:
        raise MismatchError(
            "plan.initial_model_differs",
            "the installed task starts from another model than the plan",
        )
    shapes = shapes_of(task.build(plan.model, inputs))
    return Session(permit_envelope, plan_envelope, permit, plan, keys, key, initial, shapes)
