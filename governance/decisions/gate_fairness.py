"""The gate's rules of fairness, in audits and in training: each lets every plan pass that tells no
groups apart.

An audit counts the very table that the DPIA binds, and binds what it bound when the model was
trained: groups, metrics, threshold and largest gaps are fixed before anybody can know what becomes
of them.
"""

from collections.abc import Iterator

from fedcore.contracts import ContractField
from fedcore.dpia_record import Dpia
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import SensitiveAttribute, special_point_of
from fedcore.fairness_tables import CrossedGroups, TableLayout
from fedcore.fairness_terms import audit_of, bound_audit, fits_field
from fedcore.fairness_uses import (
    no_basis_sentence,
    special_fields,
    unfounded,
)
from fedcore.noised_rates import is_noise_followed
from fedcore.segments.comparing import segment_audit_of
from governance.decisions.facts import GateFacts
from governance.decisions.gate_rule import Rule, make_rule


@make_rule(
    "fairness.not_bound",
    "A DPIA binds how an audit is made, and what may differ between groups.",
    "Art. 35(7)(c), 35(7)(d) GDPR",
)
def _not_bound(facts: GateFacts) -> str | None:
    try:
        _bound_layout(facts)
    except InvalidRecordError as error:
        return f"The DPIA binds no audit that can be made: {error.public}."
    return None


@make_rule(
    "fairness.differs_from_dpia",
    "An evaluation counts the very groups that the DPIA binds, in its order, at its threshold.",
    "Art. 35(7)(d) GDPR",
)
def _differs_from_dpia(facts: GateFacts) -> str | None:
    counted, bound = _counted(facts), _known_layout(facts)
    if counted is None or bound is None or _table_of(counted) == _table_of(bound):
        return None
    return (
        "The plan's attributes, groups, threshold or edges are not those of the DPIA's "
        "`fairness_audit`: take them from there."
    )


@make_rule(
    "fairness.bound_later",
    "The first model was trained under a DPIA that bound the same audit.",
    "Art. 5(1)(a), 35(1) GDPR",
)
def _bound_later(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.dpia is None or _known_layout(facts) is None:
        return None
    before = facts.evaluation.models[0].audit_bound
    if before is not None and before == bound_audit(facts.dpia.bindings):
        return None
    return (
        "The DPIA binds another audit than the one that the model was trained under, which knew "
        "no outcome yet: train a model under this one."
    )


@make_rule(
    "fairness.audit_outstanding",
    "A version is audited by one run at a time, and by no other once a run was answered.",
    "Art. 5(1)(a), 5(2) GDPR; internal control",
)
def _audit_outstanding(facts: GateFacts) -> str | None:
    found = () if facts.evaluation is None else facts.evaluation.outstanding
    lost = [each.run_id for each in found if each.revoked]
    if lost:
        return (
            f"Units have answered {_listed(set(lost))}, whose permit was revoked before its tables "
            "were handed over: the version gets no other audit; train the next one."
        )
    if not found:
        return None
    named = _listed({each.run_id for each in found})
    revoking = "" if any(each.answered for each in found) else ", or have its permit revoked"
    return (
        f"An audit of this version is permitted and has handed no tables over: {named}. Resume the "
        f"run{revoking}."
    )


@make_rule(
    "fairness.not_in_inventory",
    "The DPIA's inventory lists each attribute that groups are told apart by.",
    "Art. 35(7)(a) GDPR",
)
def _not_in_inventory(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    inventory = facts.dpia.inventory if isinstance(facts.dpia, Dpia) else ()
    listed = {field for category in inventory for field in category.fields}
    unlisted = {attribute.name for attribute in _attributes(facts)} - listed
    if not unlisted:
        return None
    return f"The inventory does not list: {_listed(unlisted)}; say in it of which category it is."


@make_rule(
    "fairness.field_unknown",
    "Every field that groups are told apart by is one of the contract.",
    "Art. 5(1)(c), 25(1) GDPR",
)
def _field_unknown(facts: GateFacts) -> str | None:
    named = {attribute.name for attribute in _attributes(facts)}
    if facts.contract is None or named <= facts.contract.field_by_name.keys():
        return None
    return "Groups are told apart by a field that the contract does not have: name one that it has."


@make_rule(
    "fairness.field_forbidden",
    "No field that groups are told apart by is forbidden by the contract.",
    "Art. 5(1)(c), 6(1) GDPR",
)
def _field_forbidden(facts: GateFacts) -> str | None:
    forbidden = {field.name for _, field in _grouped(facts) if field.sensitivity == "forbidden"}
    if not forbidden:
        return None
    return f"The contract forbids to use: {_listed(forbidden)}; leave it out."


@make_rule(
    "fairness.field_is_input",
    "No field that groups are told apart by is an input of a model.",
    "Art. 5(1)(c), 25(1) GDPR",
)
def _field_is_input(facts: GateFacts) -> str | None:
    inputs = {feature.field for feature in facts.features}
    both = {attribute.name for attribute in _attributes(facts)} & inputs
    if not both:
        return None
    return f"An input and a group's field at once: {_listed(both)}; train without it."


@make_rule(
    "fairness.groups_unfit",
    "Groups are all of a field's categories, or the intervals between edges inside its bounds.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _groups_unfit(facts: GateFacts) -> str | None:
    unfit = {field.name for each, field in _grouped(facts) if not fits_field(each, field)}
    if not unfit:
        return None
    return (
        f"Groups do not fit: {_listed(unfit)}; have the DPIA name all categories of the contract, "
        "or edges inside its bounds."
    )


@make_rule(
    "fairness.no_basis",
    "Groups of a special category are counted, or trained by, only if the DPIA names the point of "
    "Art. 9(2) that allows it, for the purpose and for this use of the attribute, and binds what "
    "may differ between them.",
    "Art. 9(2) GDPR",
)
def _no_basis(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    named = {attribute.name for attribute in _attributes(facts)}
    special = special_fields(facts.dpia, facts.contract) & named
    lacking = unfounded(facts.dpia, facts.plan.purpose, special, _conditioned_in(facts))
    return no_basis_sentence(lacking) if lacking else None


@make_rule(
    "fairness.noise_too_wide",
    "The noise of all units in a whole table of groups can still be worked out.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _noise_too_wide(facts: GateFacts) -> str | None:
    if facts.evaluation is None:
        return None
    plan = facts.evaluation.plan
    layout = plan.segments or plan.fairness
    if layout is None:
        return None
    noises = layout.length * len(facts.plan.units)
    if is_noise_followed(plan.epsilon / plan.tables, noises):
        return None
    return "The noise would reach beyond any table of groups: take a larger epsilon."


def _counted(facts: GateFacts) -> CrossedGroups | None:
    """Return the table that counts groups; None where none does."""
    return None if facts.evaluation is None else facts.evaluation.plan.groups


def _bound_layout(facts: GateFacts) -> CrossedGroups | None:
    """Return the table that the DPIA binds, of scores or of the plan's segments; None where no
    groups are counted. Raises: InvalidRecordError `fairness.not_bound`,
    `fairness.unknown_group`.
    """
    if facts.evaluation is None or facts.dpia is None or _counted(facts) is None:
        return None
    plan, bindings = facts.evaluation.plan, facts.dpia.bindings
    if plan.segments is not None:
        return segment_audit_of(bindings, plan.segments.segments)[0]
    return audit_of(bindings)[0]


def _known_layout(facts: GateFacts) -> CrossedGroups | None:
    """Return the same, and None as well when the DPIA binds none."""
    try:
        return _bound_layout(facts)
    except InvalidRecordError:
        return None


def _table_of(layout: CrossedGroups) -> object:
    """Return what is counted."""
    bands = (layout.threshold, layout.edges) if isinstance(layout, TableLayout) else None
    return [group_terms(each) for each in layout.attributes], bands


def group_terms(attribute: SensitiveAttribute) -> object:
    """Return whom an attribute tells apart: a plan need not repeat why it may."""
    return attribute.name, attribute.groups, attribute.edges


def mitigated_attribute(facts: GateFacts) -> SensitiveAttribute | None:
    """Return the attribute that a run to train uses against unfairness."""
    mitigation = facts.plan.mitigation
    return None if mitigation is None or facts.evaluation is not None else mitigation.attribute


def _attributes(facts: GateFacts) -> tuple[SensitiveAttribute, ...]:
    """Return what the run tells groups apart by: to count them, or to train by them."""
    layout, mitigated = _counted(facts), mitigated_attribute(facts)
    if mitigated is not None:
        return (mitigated,)
    return () if layout is None else layout.attributes


def _grouped(facts: GateFacts) -> Iterator[tuple[SensitiveAttribute, ContractField]]:
    """Yield each attribute with its field, of those that the contract has."""
    known = {} if facts.contract is None else facts.contract.field_by_name
    return ((each, known[each.name]) for each in _attributes(facts) if each.name in known)


def _conditioned_in(facts: GateFacts) -> set[str]:
    """Return the attributes for whose use here the DPIA names a point of Art. 9(2)."""
    if facts.dpia is None:
        return set()
    bindings = facts.dpia.bindings
    if facts.evaluation is None:
        uses = bindings.fairness_mitigation or ()
        said = {each.attribute: each.special_condition for each in uses if "training" in each.uses}
    else:
        audit = bindings.fairness_audit
        counted = () if audit is None else audit.attributes
        said = {each.name: each.special_condition for each in counted}
    return {name for name, condition in said.items() if special_point_of(condition) is not None}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


FAIRNESS_RULES: tuple[Rule, ...] = (
    _not_bound,
    _differs_from_dpia,
    _bound_later,
    _audit_outstanding,
    _not_in_inventory,
    _field_unknown,
    _field_forbidden,
    _field_is_input,
    _groups_unfit,
    _no_basis,
    _noise_too_wide,
)
