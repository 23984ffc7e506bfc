"""The unit's own rules over what is signed by others: pure, and always the last word."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from clients.budget import Bound, Use, bounds_for
from clients.maintenance import in_maintenance
from clients.settings import NodeSettings
from fedcore.bulletins import AnyBulletin
from fedcore.caps import EpsilonCaps
from fedcore.contracts import Contract, purpose_line
from fedcore.encodings import unfit_absences, unsaid_absences
from fedcore.errors import ExpiredError, RefusedError
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_terms import fits_field
from fedcore.permits import Permit, public_n_of
from fedcore.plans import Feature, TrainingPlan

Reason = tuple[str, str]


def verify_policy(
    settings: NodeSettings,
    permit: Permit,
    plan: TrainingPlan,
    contract: Contract,
    now: datetime,
    server_version: str,
) -> None:
    """Hold a permitted plan, and the server that asks, against the unit's policy.

    Args: `server_version` is the server's own word, unsigned: it finds mistakes, not liars.
    Raises: RefusedError with every reason of `contract.purpose_unknown`,
        `plan.absence_unsaid`, `plan.absence_unfit`, `plan.undated`, `policy.purpose_not_allowed`,
        `policy.task_not_allowed`, `policy.cohort_too_small`, `policy.delta_differs`,
        `policy.public_n_differs`, `policy.sensitive_input`, `policy.epsilon_too_large`,
        `policy.group_not_allowed`, `policy.training_group_not_allowed`,
        `policy.server_version_not_accepted`, `policy.maintenance`.
    """
    _refuse(
        [
            *_contract_reasons(plan, contract),
            *_purpose_reasons(settings, plan, contract),
            *_group_reasons(_mitigated(plan), plan.features, contract),
            *_training_group_reasons(settings, plan),
            *_run_reasons(settings, permit, plan),
            *_server_reasons(settings, now, server_version),
        ]
    )


def verify_evaluation_policy(
    settings: NodeSettings,
    permit: Permit,
    plans: tuple[EvaluationPlan, tuple[TrainingPlan, ...]],
    contract: Contract,
    now: datetime,
    server_version: str,
) -> None:
    """Hold a permitted evaluation, its models' training plans, and the server that asks against the
    unit's policy. The public size is not asked for: nothing is divided by it here.

    Raises: RefusedError as `verify_policy`.
    """
    plan, training = plans
    reasons = [
        *(reason for one in training for reason in _contract_reasons(one, contract)),
        *(reason for one in training for reason in _purpose_reasons(settings, one, contract)),
        *_group_reasons(plan.groups.attributes if plan.groups else (), (), contract),
        *_run_reasons(settings, permit, plan),
        *_server_reasons(settings, now, server_version),
    ]
    _refuse(list(dict.fromkeys(reasons)))


def verify_use_policy(settings: NodeSettings, plan: TrainingPlan, contract: Contract) -> None:
    """Hold the use of a model on the unit's own rows against the unit's policy.

    Raises: RefusedError with every reason of `contract.purpose_unknown`, `plan.absence_unsaid`,
        `plan.absence_unfit`, `plan.undated`, `policy.purpose_not_allowed`,
        `policy.task_not_allowed`, `policy.sensitive_input`.
    """
    _refuse([*_contract_reasons(plan, contract), *_purpose_reasons(settings, plan, contract)])


def _refuse(reasons: list[Reason]) -> None:
    if reasons:
        raise RefusedError(reasons)


def _contract_reasons(plan: TrainingPlan, contract: Contract) -> Iterator[Reason]:
    """Governance should have refused these; a node does not rest on that."""
    if plan.purpose not in {purpose.id for purpose in contract.purposes}:
        yield "contract.purpose_unknown", "the plan's purpose is not in the contract's tree"
    if unsaid_absences(plan.features, contract):
        yield "plan.absence_unsaid", "the plan takes a field that may be absent as if it were not"
    if unfit_absences(plan.features, contract):
        yield "plan.absence_unfit", "the plan's rule for an absent field does not fit the contract"
    if plan.train_until is not None and contract.row_day is None:
        yield "plan.undated", "the plan tells rows by days, and the contract gives them none"


def _purpose_reasons(
    settings: NodeSettings, plan: TrainingPlan, contract: Contract
) -> Iterator[Reason]:
    known = plan.purpose in {purpose.id for purpose in contract.purposes}
    line = purpose_line(contract.purposes, plan.purpose) if known else ()
    if not set(line) & set(settings.purposes):
        yield "policy.purpose_not_allowed", "the unit does not take part in this purpose"
    if settings.tasks is not None and plan.task not in settings.tasks:
        yield "policy.task_not_allowed", "the unit does not take part in this task"
    inputs = {feature.field for feature in plan.features}
    if any(f.name in inputs and f.sensitivity != "none" for f in contract.fields):
        yield "policy.sensitive_input", "the plan takes a sensitive field as an input"


def _group_reasons(
    attributes: Iterable[SensitiveAttribute], features: Iterable[Feature], contract: Contract
) -> Iterator[Reason]:
    known = contract.field_by_name
    inputs = {feature.field for feature in features}
    for attribute in attributes:
        field = known.get(attribute.name)
        is_free = attribute.name not in inputs
        if (
            field is None
            or field.sensitivity == "forbidden"
            or not (is_free and fits_field(attribute, field))
        ):
            yield (
                "policy.group_not_allowed",
                "groups are of no field of the contract that allows it",
            )


def _mitigated(plan: TrainingPlan) -> tuple[SensitiveAttribute, ...]:
    return () if plan.mitigation is None else (plan.mitigation.attribute,)


def _training_group_reasons(settings: NodeSettings, plan: TrainingPlan) -> Iterator[Reason]:
    if any(attribute.name not in settings.training_groups for attribute in _mitigated(plan)):
        yield (
            "policy.training_group_not_allowed",
            "the unit does not have its customers weighed or penalised by these groups in training",
        )


def _run_reasons(
    settings: NodeSettings, permit: Permit, plan: TrainingPlan | EvaluationPlan
) -> Iterator[Reason]:
    if permit.minimum_cohort < settings.minimum_cohort:
        yield "policy.cohort_too_small", "the unit asks for a larger minimum cohort"
    if plan.delta != settings.delta:
        yield "policy.delta_differs", "the plan's delta is not the one of the unit's ledger"
    if isinstance(plan, TrainingPlan) and _is_misjudged(settings, plan):
        yield "policy.public_n_differs", "the plan's public size is not the declared one"
    grant, cap = permit.grant(settings.unit), settings.run_epsilon_cap
    if grant is not None and cap is not None and grant.epsilon > cap:
        yield (
            "policy.epsilon_too_large",
            "the permit grants the run more epsilon than the unit allows one run: plan more noise "
            "or fewer rounds",
        )


def _is_misjudged(settings: NodeSettings, plan: TrainingPlan) -> bool:
    return plan.public_n(settings.unit) != public_n_of(settings.size_band)


def _server_reasons(settings: NodeSettings, now: datetime, server_version: str) -> Iterator[Reason]:
    accepted = settings.accepted_server_versions
    if accepted is not None and server_version not in accepted:
        yield (
            "policy.server_version_not_accepted",
            "the unit does not work with the server's version: install one that it accepts",
        )
    if in_maintenance(settings.maintenance_windows, now):
        yield "policy.maintenance", "the unit is in a maintenance window: ask again later"


def bounds_of(
    settings: NodeSettings, use: Use, now: datetime, permitted: EpsilonCaps | None
) -> tuple[Bound, ...]:
    """Return the bounds on parts of the ledger that the unit and the permit set for a run now."""
    own = EpsilonCaps(line=settings.line_epsilon_cap, year=settings.year_epsilon_cap)
    return bounds_for(use, now.year, settings.purpose_epsilon_caps, own, permitted)


def standing_bounds(settings: NodeSettings, year: int, lines: Iterable[str]) -> tuple[Bound, ...]:
    """Return the bounds that the settings set now: on each purpose that they name, on the year, and
    on these model lines.
    """
    found = [Bound("purpose", name, cap) for name, cap in settings.purpose_epsilon_caps.items()]
    if settings.year_epsilon_cap is not None:
        found.append(Bound("year", str(year), settings.year_epsilon_cap))
    if settings.line_epsilon_cap is not None:
        found += [Bound("line", line, settings.line_epsilon_cap) for line in lines]
    return tuple(found)


def verify_not_revoked(bulletin: AnyBulletin, permit: Permit) -> None:
    """Refuse a run that governance has stopped. Raises: RefusedError `permit.revoked`."""
    if permit.run_id in bulletin.revoked_runs:
        raise RefusedError([("permit.revoked", "governance has revoked the permit of this run")])


def verify_epoch(bulletin: AnyBulletin, permit: Permit) -> None:
    """Refuse opt-outs older than the permit asks for. Raises: ExpiredError `bulletin.stale`."""
    if bulletin.epoch < permit.min_opt_out_epoch:
        raise ExpiredError("bulletin.stale", "the permit asks for newer opt-outs than the unit has")
