"""Checks of a bundle: was the run allowed, by whom, and within what bounds?"""

import itertools
from collections.abc import Mapping

from fedcore.dpia_acts import (
    ADVICE,
    APPROVALS,
    advice_is_unfavourable,
    current_line,
    entities_without,
    force_ends_at,
    participating_controllers,
)
from fedcore.dpia_record import AnyDpia, allowed_inputs
from fedcore.dpias import ActRecord, DpiaAct, DpiaDecision
from fedcore.encodings import unfit_absences, unsaid_absences
from fedcore.errors import MismatchError
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_uses import bound_use, excess_of, objection_to_use
from fedcore.permits import public_n_of
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.trust import verify_permit, verify_renewal
from fedcore.verify_documents import Documents
from fedcore.verify_runs import RunDocuments

# Author, evaluator, data protection officer, approver: each duty is done in full before the next
# one, by persons who have no other.
_DUTIES: Mapping[DpiaAct, int] = {
    "submit": 0,
    "evaluate": 1,
    "advise": 2,
    "approve": 3,
    "approve_with_conditions": 3,
}
_ENDING: frozenset[DpiaAct] = frozenset({"reject", "suspend", "withdraw"})
_AFTER_FORCE: frozenset[DpiaAct] = _ENDING | {"resume"}


def verify_lineage(documents: Documents) -> None:
    """Hold the documents against the digests by which model version and permit name them.

    Raises: MismatchError `lineage.differs`, `model.simulation_mislabelled`.
    """
    model, permit = documents.model_version, documents.permit
    claims = {
        "permit.json": (model.permit, permit.digest),
        "plan.json": (model.plan, documents.plan.digest),
        "contract.json": (model.contract, documents.contract.digest),
        "dpia.json": (model.dpia, documents.dpia.digest),
        "the contract of the permit": (permit.contract, documents.contract.digest),
        "the DPIA of the permit": (permit.dpia, documents.dpia.digest),
        "dpia-decision.json": (permit.dpia_decision, documents.dpia_decision.digest),
        "the run": (model.run_id, permit.run_id),
        "the task": (model.task, permit.task),
    }
    for name, (claimed, found) in claims.items():
        if claimed != found:
            raise MismatchError("lineage.differs", f"{name} is not the one that the model names")
    if model.simulation != (documents.realm == Realm.SIMULATION):
        raise MismatchError("model.simulation_mislabelled", "the model hides that it is simulated")


def verify_permit_fits(documents: Documents) -> None:
    """Hold the permit against plan and run.

    Raises: MismatchError as `trust.verify_permit`, `model.delta_differs`, `plan.public_n_differs`.
    """
    model, permit, plan = documents.model_version, documents.permit, documents.plan
    verify_permit(permit, plan, model.run_id, documents.realm)
    for grant in permit.cohort:
        certificate = documents.certificates.get(grant.unit)
        if certificate is None or plan.public_n(grant.unit) != public_n_of(certificate.size_band):
            raise MismatchError(
                "plan.public_n_differs", f"the plan's size of {grant.unit} is not the certified one"
            )
    if model.delta != permit.delta:
        raise MismatchError("model.delta_differs", "the model states another delta than its permit")


def verify_features(documents: Documents) -> None:
    """Hold the plan's inputs and purpose against the contract.

    Raises: MismatchError `plan.field_not_allowed`, `plan.purpose_unknown`, `plan.absence_unsaid`,
        `plan.absence_unfit`.
    """
    fields = documents.contract.field_by_name
    for feature in documents.plan.features:
        if feature.field not in fields or fields[feature.field].sensitivity != "none":
            raise MismatchError(
                "plan.field_not_allowed", f"the contract does not allow {feature.field} as an input"
            )
    if documents.plan.purpose not in {purpose.id for purpose in documents.contract.purposes}:
        raise MismatchError("plan.purpose_unknown", "the contract does not know the plan's purpose")
    features, contract = documents.plan.features, documents.contract
    if unsaid_absences(features, contract):
        raise MismatchError(
            "plan.absence_unsaid", "the plan takes a field that may be absent as if it were not"
        )
    if unfit_absences(features, contract):
        raise MismatchError(
            "plan.absence_unfit", "the plan's rule for an absent field does not fit the contract"
        )


def verify_bindings(documents: Documents) -> None:
    """Hold permit and plan against what the DPIA allows. Raises: MismatchError `dpia.exceeded`."""
    modes = documents.dpia.bindings.privacy_modes
    further = {
        "privacy mode": documents.plan.privacy.mode in modes,
        "mitigation": _covers_mitigation(documents),
    }
    verify_within(documents, documents.plan, further)


def verify_within(run: RunDocuments, plan: TrainingPlan, further: Mapping[str, bool]) -> None:
    """Hold the permit of a run, and the inputs of the model's plan, against the run's DPIA.

    Args: `further` are bounds of the run's own kind by name, each with whether it holds.
    Raises: MismatchError `dpia.exceeded`.
    """
    permit, bindings = run.permit, run.dpia.bindings
    within = {
        "task": permit.task == bindings.task,
        "purpose": permit.purpose in bindings.purposes,
        "contract": permit.contract == bindings.contract,
        "features": {feature.field for feature in plan.features} <= allowed_inputs(run.dpia),
        "units": {grant.unit for grant in permit.cohort} <= set(bindings.units),
        "epsilon": all(grant.epsilon <= bindings.epsilon_cap for grant in permit.cohort),
        "delta": permit.delta <= bindings.delta_cap,
        "caps on ledgers": permit.ledger_caps == bindings.ledger_caps,
        # Permits of before do not say it.
        "retention of updates": permit.update_retention_days
        in {None, bindings.update_retention_days},
        "minimum of units": permit.minimum_cohort >= bindings.minimum_units,
        **further,
    }
    broken = [name for name, holds in within.items() if not holds]
    if broken:
        raise MismatchError("dpia.exceeded", f"the DPIA does not cover: {', '.join(broken)}")


def verify_dpia_in_force(documents: RunDocuments) -> None:
    """Hold the DPIA's state against the time at which the permit was issued.

    Raises: MismatchError `dpia.not_in_force`, `dpia.acts_incomplete`, `dpia.acts_not_separate`.
    """
    decision, issued_at = documents.dpia_decision, documents.permit.issued_at
    valid_until = force_ends_at(
        min(decision.valid_until, documents.dpia.valid_until), decision.acts
    )
    if (
        decision.state != "in_force"
        or decision.decided_at < (documents.dpia.effective_from or decision.decided_at)
        or decision.dpia != documents.dpia.digest
        or not decision.decided_at <= issued_at < valid_until
    ):
        raise MismatchError(
            "dpia.not_in_force", "the DPIA was not in force when the permit was issued"
        )
    _verify_acts(decision, documents.dpia)
    if any(act.acted_at > decision.decided_at for act in decision.acts):
        raise MismatchError("dpia.acts_incomplete", "an act was done after the decision")


def verify_renewals(documents: RunDocuments) -> None:
    """Hold every renewal against the permit. Raises: MismatchError as `trust.verify_renewal`."""
    permit = documents.permit
    for renewal in documents.renewals:
        verify_renewal(renewal, permit)


def _covers_mitigation(documents: Documents) -> bool:
    """Return whether the DPIA covers how the plan weighs or penalises by groups: the use, its basis
    and its sizes, and groups that an audit tells apart, by a field that is no input.
    """
    plan, dpia, audit = documents.plan, documents.dpia, documents.dpia.bindings.fairness_audit
    if plan.mitigation is None:
        return True
    attribute = plan.mitigation.attribute
    bound = bound_use(dpia, attribute.name, "training")
    about = (dpia, documents.contract, plan.purpose, attribute.name)
    if bound is None or audit is None or objection_to_use(*about, "training") is not None:
        return False
    return (
        _group_terms(attribute) in map(_group_terms, audit.attributes)
        and attribute.name not in {feature.field for feature in plan.features}
        and excess_of(bound, plan.mitigation, plan.averaging.positive_weight) is None
    )


def _group_terms(attribute: SensitiveAttribute) -> object:
    return attribute.name, attribute.groups, attribute.edges


def _verify_acts(decision: DpiaDecision, dpia: AnyDpia) -> None:
    """Hold the acts since the last submission against the order and separation of duties."""
    acts, line = decision.acts, current_line(decision.acts)
    of_each = max(1, len(participating_controllers(dpia)))
    done = [act for act in line if act.act in _DUTIES]
    duties = [_DUTIES[act.act] for act in done]
    if duties != [0, 1, *[2] * of_each, *[3] * of_each]:
        raise MismatchError(
            "dpia.acts_incomplete", "the DPIA was not submitted, evaluated, advised on and approved"
        )
    if [act.act for act in line if act.act in APPROVALS | _AFTER_FORCE][-1] in _ENDING:
        raise MismatchError("dpia.acts_incomplete", "the last act on the DPIA ends its force")
    if any(left.acted_at > right.acted_at for left, right in itertools.pairwise(acts)):
        raise MismatchError("dpia.acts_incomplete", "the acts on the DPIA are out of order")
    people = {(duty, act.actor) for duty, act in zip(duties, done, strict=True)}
    if len(people) != len({actor for _, actor in people}):
        raise MismatchError("dpia.acts_not_separate", "one person did two of the acts on the DPIA")
    _verify_every_controller(line, dpia)


def _verify_every_controller(line: tuple[ActRecord, ...], dpia: AnyDpia) -> None:
    """Hold advice and approvals against the controllers that take part, and against each other."""
    entities = participating_controllers(dpia)
    for kinds in (ADVICE, APPROVALS):
        missing = entities_without(line, kinds, entities)
        if missing:
            raise MismatchError(
                "dpia.acts_incomplete", f"{', '.join(missing)} did not advise or approve"
            )
    for act in line:
        overruled = act.act in APPROVALS and advice_is_unfavourable(line, act.entity)
        if overruled and act.overruling_reason is None:
            raise MismatchError(
                "dpia.acts_incomplete", "it was approved against the advice, without a reason"
            )
