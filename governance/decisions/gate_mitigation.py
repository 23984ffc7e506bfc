"""The gate's rules of plans that weigh or penalise by groups: each lets every other plan pass.

The rules of fairness hold such a plan as well: they look at the attribute that it tells groups
apart by, as at those of an evaluation.
"""

from fedcore.fairness_uses import bound_use, excess_of, use_not_bound_sentence
from governance.decisions.facts import GateFacts
from governance.decisions.gate_fairness import group_terms, mitigated_attribute
from governance.decisions.gate_rule import Rule, make_rule


@make_rule(
    "fairness.use_not_bound",
    "A DPIA binds the use of a sensitive attribute in training, where a plan weighs or penalises "
    "by its groups.",
    "Art. 5(1)(b), 35(7)(a), 35(7)(b) GDPR",
)
def _use_not_bound(facts: GateFacts) -> str | None:
    mitigated = mitigated_attribute(facts)
    if mitigated is None or facts.dpia is None:
        return None
    if bound_use(facts.dpia, mitigated.name, "training") is not None:
        return None
    return use_not_bound_sentence(mitigated.name, "training")


@make_rule(
    "fairness.use_exceeds_dpia",
    "No weight or strength is beyond what the DPIA binds, and no penalty outweighs the loss.",
    "Art. 5(1)(b), 5(1)(c), 9(1) GDPR",
)
def _use_exceeds_dpia(facts: GateFacts) -> str | None:
    mitigated, mitigation = mitigated_attribute(facts), facts.plan.mitigation
    if mitigated is None or mitigation is None or facts.dpia is None:
        return None
    bound = bound_use(facts.dpia, mitigated.name, "training")
    if bound is None:
        return None
    return excess_of(bound, mitigation, facts.plan.averaging.positive_weight)


@make_rule(
    "fairness.groups_differ",
    "A plan that weighs or penalises by groups tells them apart as the DPIA's audit does.",
    "Art. 35(7)(d) GDPR",
)
def _groups_differ(facts: GateFacts) -> str | None:
    mitigated = mitigated_attribute(facts)
    if mitigated is None or facts.dpia is None:
        return None
    audit = facts.dpia.bindings.fairness_audit
    audited = [] if audit is None else [group_terms(each) for each in audit.attributes]
    if group_terms(mitigated) in audited:
        return None
    return (
        "The groups of the plan's `mitigation` are none that the DPIA's `fairness_audit` binds: "
        "take the attribute from there, so that the audit can tell what became of it."
    )


MITIGATION_RULES: tuple[Rule, ...] = (_use_not_bound, _use_exceeds_dpia, _groups_differ)
