"""A draft DPIA from a data contract and a training plan: what the system knows, and nothing else.

Legal judgements are left unwritten. Where the record asks for a level, the draft says the highest:
whoever judges it lowers it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fedcore.contracts import Contract, ContractField
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import (
    CRITERIA,
    Asset,
    CriterionAnswer,
    DataCategory,
    FeatureReview,
    Language,
    LegalEntity,
    LifeCycleStep,
    PurposeBasis,
    Retention,
    Screening,
)
from fedcore.dpias import Bindings
from fedcore.errors import MismatchError, RefusedError
from fedcore.plans import TrainingPlan
from governance.decisions.facts import GateFacts, run_epsilon
from governance.decisions.gate import decide_permit
from governance.decisions.prefill_risks import make_measures, make_risks

_LONGEST_TEXT = 4000
_NAMES_IN_A_SENTENCE = 20
_ABSENCES = {"plan.absence_unsaid", "plan.absence_unfit"}
_ASSETS: Mapping[str, tuple[Literal["software", "network"], str]] = {
    "customer-table": ("software", "table"),
    "node": ("software", "node"),
    "server": ("software", "server"),
    "governance": ("software", "governance"),
    "connections": ("network", "line"),
}
_STEPS = {
    "reading": ("customer-table", "node"),
    "training": ("node",),
    "sending": ("node", "connections"),
    "averaging": ("server",),
    "registering": ("governance", "connections"),
}


@dataclass(frozen=True)
class DraftTerms:
    """Which version a draft is, in which language, until when, and who answers for it."""

    version: int
    language: Language
    valid_until: datetime
    entities: tuple[LegalEntity, ...] = ()


@dataclass(frozen=True)
class _Run:
    contract: Contract
    plan: TrainingPlan
    texts: Mapping[str, str]

    def say(self, key: str, **facts: object) -> str:
        """Return a sentence with its facts: the one about the plan's kind of model, if any."""
        own = f"{key}.{self.plan.model.kind}"
        text = self.texts.get(own, self.texts[key]).format(**facts)
        return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(sorted({feature.field for feature in self.plan.features}))

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(terms.unit for terms in self.plan.units)


def prefill_dpia(
    contract: Contract, plan: TrainingPlan, terms: DraftTerms, texts: Mapping[str, str]
) -> Dpia:
    """Return a draft with all that contract, plan and product say about the processing.

    Guarantees: the gate's rules about a DPIA's bindings hold for this very plan; every sentence
        follows from contract, plan or what the product does; no section that is a legal judgement
        (necessity, rights, the test of a legitimate interest, levels of risks) is written, except
        that every level is the highest.
    Args: `texts` are the sentences in the draft's language.
    Raises: MismatchError `plan.other_contract`; RefusedError `contract.field_unknown`,
        `contract.sensitive_input`, `contract.purpose_unknown`, `plan.absence_unsaid`,
        `plan.absence_unfit`.
    """
    _verify_fits(contract, plan, terms.valid_until)
    run = _Run(contract, plan, texts)
    return Dpia(
        dpia_id=f"{plan.task}-{contract.contract_id}"[:80],
        version=terms.version,
        language=terms.language,
        title=plan.title,
        entities=terms.entities,
        screening=_screening(run),
        description=_description(run),
        inventory=_inventory(run),
        life_cycle=_life_cycle(run),
        assets=_assets(run),
        purposes=_purposes(run),
        minimisation=tuple(_review(run, field) for field in contract.fields),
        retention=(
            Retention(what="rows", days=contract.retention_days, reason=run.say("retention.rows")),
        ),
        measures=make_measures(plan, run.say),
        risks=make_risks(run.say),
        review_triggers=(run.say("trigger.bindings"), run.say("trigger.validity")),
        bindings=make_bindings(plan),
        valid_until=terms.valid_until,
    )


def make_bindings(plan: TrainingPlan) -> Bindings:
    """Return the narrowest bindings that cover a plan; epsilon is the whole run's, rounded up."""
    return Bindings(
        task=plan.task,
        purposes=(plan.purpose,),
        contract=plan.contract,
        features=tuple(sorted({feature.field for feature in plan.features})),
        units=tuple(terms.unit for terms in plan.units),
        privacy_modes=(plan.privacy.mode,),
        epsilon_cap=run_epsilon(plan),
        delta_cap=plan.privacy.delta,
        minimum_units=plan.minimum_units,
    )


def _verify_fits(contract: Contract, plan: TrainingPlan, now: datetime) -> None:
    if plan.contract != contract.digest:
        raise MismatchError(
            "plan.other_contract", f"the plan names another contract than {contract.digest}"
        )
    against = decide_permit(GateFacts(plan, True, contract, None, None, {}, now))
    reasons = [
        reason for reason in against if reason[0].startswith("contract.") or reason[0] in _ABSENCES
    ]
    if reasons:
        raise RefusedError(reasons)


def _description(run: _Run) -> str:
    return run.say(
        "description",
        units=_listed(run.units),
        model=run.plan.model.kind,
        task=run.plan.task,
        contract=run.contract.contract_id,
        contract_version=run.contract.version,
        exchanges=run.plan.exchanges,
        label=run.contract.label.name,
        horizon=run.contract.label.horizon_days,
    )


def _screening(run: _Run) -> Screening:
    special = [field.name for field in run.contract.fields if field.sensitivity == "special"]
    facts = {
        "task": run.plan.task,
        "label": run.contract.label.name,
        "fields": _listed(special),
    }
    known = {"evaluation_or_scoring", "innovative_technology"}
    known |= {"sensitive_data"} if special else set()
    applying = [criterion for criterion in CRITERIA if criterion in known]
    said = [run.say(f"criterion.{criterion}") for criterion in applying]
    return Screening(
        criteria=tuple(
            CriterionAnswer(id=name, applies=True, reason=run.say(f"screening.{name}", **facts))
            for name in applying
        ),
        verdict="required",
        reason=run.say("screening.verdict", criteria="; ".join(said)),
    )


def _inventory(run: _Run) -> tuple[DataCategory, ...]:
    contract = run.contract
    groups: dict[str, list[str]] = {"inputs": [], "others": []}
    for field in contract.fields:
        group = field.sensitivity
        if group == "none":
            groups["inputs" if field.name in run.inputs else "others"].append(field.name)
        else:
            groups.setdefault(group, []).append(field.name)
    groups |= {"identifier": [contract.subject.column], "label": [contract.label.name]}
    sizes = [f"{terms.unit} {terms.public_n}" for terms in run.plan.units]
    total = sum(terms.public_n for terms in run.plan.units)
    volume = run.say("category.volume", sizes=_listed(sizes), total=total)
    return tuple(
        DataCategory(
            id=group,
            category=run.say(f"category.{group}"),
            fields=tuple(fields),
            source=run.say("category.source"),
            subjects=run.say("category.subjects", units=_listed(run.units)),
            volume_band=volume,
            retention_days=contract.retention_days,
            recipients=(run.say("category.recipients"),),
        )
        for group, fields in groups.items()
        if fields
    )


def _life_cycle(run: _Run) -> tuple[LifeCycleStep, ...]:
    return tuple(
        LifeCycleStep(id=step, text=run.say(f"step.{step}"), assets=assets)
        for step, assets in _STEPS.items()
    )


def _assets(run: _Run) -> tuple[Asset, ...]:
    return tuple(
        Asset(id=id_, kind=kind, text=run.say(f"asset.{text}"))
        for id_, (kind, text) in _ASSETS.items()
    )


def _purposes(run: _Run) -> tuple[PurposeBasis, ...]:
    """The plan's purpose with its basis from the contract's tree. One that stands on legitimate
    interests needs a test that a person writes: it is left out until then.
    """
    return tuple(
        PurposeBasis(purpose=purpose.id, text=purpose.text, basis=purpose.basis)
        for purpose in run.contract.purposes
        if purpose.id == run.plan.purpose and purpose.basis != "legitimate_interests"
    )


def _review(run: _Run, field: ContractField) -> FeatureReview:
    encodings = [feature.encoding for feature in run.plan.features if feature.field == field.name]
    if encodings:
        reason = run.say("minimisation.input", encoding=", ".join(encodings))
        return FeatureReview(
            field=field.name, verdict="allowed", reason=reason + _held_on(run, field)
        )
    if field.sensitivity == "none":
        reason = run.say("minimisation.unused")
    else:
        sensitivity = run.say(f"sensitivity.{field.sensitivity}")
        reason = run.say("minimisation.sensitive", sensitivity=sensitivity)
    return FeatureReview(
        field=field.name, verdict="forbidden", reason=reason + _held_on(run, field)
    )


def _held_on(run: _Run, field: ContractField) -> str:
    """Return the sentence about the field's legal basis, where the contract names one."""
    if field.legal_basis is None:
        return ""
    basis = run.texts[f"basis.{field.legal_basis.basis}"]
    said = " " + run.say("minimisation.basis", basis=basis)
    if field.legal_basis.condition is not None:
        condition = run.texts[f"condition.{field.legal_basis.condition}"]
        said += " " + run.say("minimisation.condition", condition=condition)
    return said


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    shown, rest = every[:_NAMES_IN_A_SENTENCE], len(every) - _NAMES_IN_A_SENTENCE
    return ", ".join(shown) + (f", … (+{rest})" if rest > 0 else "")
