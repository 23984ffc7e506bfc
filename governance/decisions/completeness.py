"""What a draft DPIA still lacks before it may be submitted, as a list for its author.

To add a rule is to add a function here, to RULES, and a test.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import CRITERIA, FEARED_EVENTS
from fedcore.fairness_terms import MAX_COMPARISONS, bound_comparisons

# Sections that are plainly there or not. Absent processors or transfers mean that nobody has
# thought about them; empty ones that there are none.
_SECTIONS = {
    "entities": "name the controllers, and whose units take part",
    "screening": "say whether a DPIA is needed, by the nine criteria",
    "description": "describe the processing",
    "responsibilities": "say who answers for what",
    "standards": "name the codes of conduct and standards that are followed, or say that none is",
    "inventory": "list the categories of personal data",
    "life_cycle": "say what happens to the data, step by step",
    "assets": "list what the data are processed with",
    "purposes": "say what the data are processed for, and on which basis",
    "necessity": "say why the processing is necessary and proportionate",
    "minimisation": "review every field",
    "accuracy": "say how the data are kept accurate",
    "retention": "say how long everything is kept",
    "rights": "say how each right is exercised",
    "processors": "list the processors, or none",
    "transfers": "list the transfers to third countries, or none",
    "profiling": "say what profiling does to people, and who can step in",
    "measures": "list the measures",
    "risks": "assess the risks",
    "consultation": "say what the persons concerned think, or why they were not asked",
    "review_triggers": "say what makes a new review necessary",
}
_EMPTY_IS_AN_ANSWER = {"processors", "transfers"}
KEPT = ("checkpoints", "updates")


@dataclass(frozen=True)
class Lack:
    """Something that a draft lacks: where, which article asks for it, and what to do, in English
    with `facts` in braces.
    """

    path: str
    article: str
    template: str
    facts: Mapping[str, str | int] = field(default_factory=dict)

    def say(self, sentences: Mapping[str, str]) -> str:
        """Return what to do in the language of a table from English; in English without one."""
        return sentences.get(self.template, self.template).format(**self.facts)

    @property
    def sentence(self) -> str:
        """What to do, in English."""
        return self.say({})

    @property
    def text(self) -> str:
        """The lack as one line."""
        return f"{self.path} ({self.article}): {self.sentence}"


def list_lacks(dpia: Dpia, contract: Contract | None) -> tuple[Lack, ...]:
    """Return everything that a draft lacks, section by section; nothing when it is complete.

    Args: `contract` is the published one that the bindings name, or None when there is none.
    """
    return tuple(lack for rule in RULES for lack in rule(dpia, contract))


def _lack(path: str, template: str, article: str | None = None, **facts: str | int) -> Lack:
    """Return a lack; the article is the section's own when none is given."""
    extra = Dpia.model_fields[path.partition(".")[0]].json_schema_extra
    asked_by = str(extra["asked_by"]) if isinstance(extra, dict) else ""
    return Lack(path, article or asked_by, template, facts)


def _sections(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    for section, sentence in _SECTIONS.items():
        value = getattr(dpia, section)
        if value is None or (value == () and section not in _EMPTY_IS_AN_ANSWER):
            yield _lack(section, sentence)


def _contract_known(dpia: Dpia, contract: Contract | None) -> Iterator[Lack]:
    if contract is None or contract.digest != dpia.bindings.contract:
        yield _lack("bindings.contract", "publish the contract first: it says what is processed")


def _criteria(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    if dpia.screening is None:
        return
    answered = {answer.id for answer in dpia.screening.criteria}
    for criterion in CRITERIA:
        if criterion not in answered:
            yield _lack(f"screening.criteria.{criterion}", "answer this criterion")


def _units(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    for unit in dpia.bindings.units:
        controllers = [entity for entity in dpia.controllers() if unit in entity.units]
        if len(controllers) != 1:
            yield _lack(
                "entities",
                "name exactly one controller whose unit {unit} is",
                "Art. 26, 30(1)(a)",
                unit=unit,
            )


def _inventory(dpia: Dpia, contract: Contract | None) -> Iterator[Lack]:
    covered = {name for category in dpia.inventory for name in category.fields}
    processed = list(dpia.bindings.features)
    if contract is not None:
        processed += [contract.label.name, contract.subject.column]
    for name in processed:
        if name not in covered:
            yield _lack("inventory", "put {field} into a category", field=name)


def _inventory_keeps_to_the_contract(dpia: Dpia, contract: Contract | None) -> Iterator[Lack]:
    if contract is None:
        return
    special = {
        name
        for category in dpia.inventory
        if category.special_category is not None
        for name in category.fields
    }
    for named in contract.fields:
        if named.sensitivity == "special" and named.name not in special:
            yield _lack(
                "inventory",
                "{field} is special in the contract: say which special category it is",
                "Art. 9(1), 10",
                field=named.name,
            )
    for category in dpia.inventory:
        if category.retention_days > contract.retention_days:
            yield _lack(
                f"inventory.{category.id}.retention_days",
                "the contract keeps rows for {days} days: keep them no longer",
                "Art. 5(1)(e)",
                days=contract.retention_days,
            )


def _purposes(dpia: Dpia, contract: Contract | None) -> Iterator[Lack]:
    written = {purpose.purpose: purpose for purpose in dpia.purposes}
    bases = {} if contract is None else {item.id: item.basis for item in contract.purposes}
    for bound in dpia.bindings.purposes:
        purpose = written.get(bound)
        if purpose is None:
            yield _lack(f"purposes.{bound}", "say on which basis it stands", "Art. 6(1)")
        elif contract is not None and bases.get(bound) != purpose.basis:
            yield _lack(
                f"purposes.{bound}.basis",
                "the contract does not give this purpose this basis: make them agree",
                "Art. 6(1)",
            )


def _special_condition(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    if all(category.special_category is None for category in dpia.inventory):
        return
    for purpose in dpia.purposes:
        if purpose.special_condition is None:
            yield _lack(
                f"purposes.{purpose.purpose}.special_condition",
                "special categories of data are processed: say what allows it",
                "Art. 9(2), 10",
            )


def _consent(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    on_consent = [purpose for purpose in dpia.purposes if purpose.basis == "consent"]
    if on_consent and dpia.rights is not None and dpia.rights.consent is None:
        yield _lack("rights.consent", "say how consent is given and withdrawn", "Art. 7")


def _minimisation(dpia: Dpia, contract: Contract | None) -> Iterator[Lack]:
    verdicts = {review.field: review.verdict for review in dpia.minimisation}
    fields = dict.fromkeys(dpia.bindings.features)
    if contract is not None:
        fields |= dict.fromkeys(named.name for named in contract.fields)
        for named in contract.fields:
            if named.sensitivity != "none" and verdicts.get(named.name) == "allowed":
                yield _lack(
                    f"minimisation.{named.name}",
                    "the contract calls it {sensitivity}: it is not allowed",
                    sensitivity=named.sensitivity,
                )
    for name in fields:
        if name not in verdicts:
            yield _lack(f"minimisation.{name}", "say whether a model may see it, and why")


def _bound_features(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    verdicts = {review.field: review.verdict for review in dpia.minimisation}
    for feature in dpia.bindings.features:
        if verdicts.get(feature, "allowed") != "allowed":
            yield _lack(
                "bindings.features",
                "take {field} out: minimisation does not allow it",
                "Art. 5(1)(c)",
                field=feature,
            )


def _fairness(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    count = bound_comparisons(dpia.bindings) or 0
    if count > MAX_COMPARISONS:
        yield _lack(
            "bindings.fairness",
            "merge groups, or bind or cross fewer attributes or edges: an audit would make {count} "
            "comparisons, and it may make {most}",
            "Art. 35(7)(d)",
            count=count,
            most=MAX_COMPARISONS,
        )


def _retention(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    kept = {retention.what: retention.days for retention in dpia.retention}
    for what in KEPT:
        if what not in kept:
            yield _lack(f"retention.{what}", "say how long they are kept, and why")
    bound = dpia.bindings.update_retention_days
    if bound is not None and kept.get("updates", bound) > bound:
        yield _lack(
            "retention.updates",
            "the bindings keep updates for {days} days: make them agree",
            days=bound,
        )


def _feared_events(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    events = {risk.event for risk in dpia.risks}
    for event in FEARED_EVENTS:
        if event not in events:
            yield _lack(f"risks.{event}", "assess this feared event")


def _risks(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    for risk in dpia.risks:
        path = f"risks.{risk.id}"
        if not risk.measures:
            yield _lack(f"{path}.measures", "name at least one measure", "Art. 35(7)(d)")
        for name in ("sources", "threats", "impacts"):
            if not getattr(risk, name):
                yield _lack(f"{path}.{name}", "name at least one", "Recital 90")
        for name in ("severity", "likelihood"):
            if getattr(risk, f"{name}_after") > getattr(risk, f"{name}_before"):
                yield _lack(
                    f"{path}.{name}_after", "measures do not make a risk greater", "Recital 76"
                )


def _validity(dpia: Dpia, _contract: Contract | None) -> Iterator[Lack]:
    if dpia.effective_from is not None and dpia.effective_from >= dpia.valid_until:
        yield _lack("effective_from", "let it take effect before it ends")


RULES: tuple[Callable[[Dpia, Contract | None], Iterator[Lack]], ...] = (
    _sections,
    _contract_known,
    _criteria,
    _units,
    _inventory,
    _inventory_keeps_to_the_contract,
    _purposes,
    _special_condition,
    _consent,
    _minimisation,
    _bound_features,
    _fairness,
    _retention,
    _feared_events,
    _risks,
    _validity,
)
