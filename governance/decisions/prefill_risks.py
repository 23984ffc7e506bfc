"""The standard measures of the product, and the standard risks that they lower."""

from collections.abc import Callable, Mapping
from typing import Literal

from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import FearedEvent, Measure, Risk
from fedcore.plans import TrainingPlan
from governance.decisions.facts import run_epsilon

Say = Callable[..., str]

_HIGHEST = 4
_ORGANISATIONAL = {"enrolment", "separation-of-duties"}
# Risk: the event, who or what brings it about, and the measures that lower it.
STANDARD_RISKS: Mapping[str, tuple[FearedEvent, tuple[str, ...], tuple[str, ...]]] = {
    "illegitimate-access": (
        "illegitimate_access",
        ("outsider", "operator", "other-unit", "unit-staff"),
        (
            "rows-stay",
            "encryption",
            "pseudonyms",
            "no-foreign-code",
            "permits",
            "separation-of-duties",
        ),
    ),
    "unwanted-change": (
        "unwanted_change",
        ("outsider", "operator", "crash"),
        ("encryption", "opt-outs", "receipts", "read-only"),
    ),
    "disappearance": ("disappearance", ("crash", "unit-staff"), ("read-only", "receipts")),
    "membership-inference": (
        "other",
        ("operator", "other-unit", "model-user"),
        ("differential-privacy", "privacy-ledger", "rows-stay", "permits"),
    ),
    "model-inversion": (
        "other",
        ("operator", "other-unit", "model-user"),
        ("differential-privacy", "privacy-ledger", "rows-stay", "bounded-weights"),
    ),
    "discrimination": ("other", ("data",), ("sensitive-inputs",)),
    "unit-reidentification": (
        "other",
        ("operator", "other-unit", "model-user"),
        ("size-bands", "rows-stay", "minimum-cohort"),
    ),
    "poisoned-updates": (
        "other",
        ("other-unit", "outsider"),
        ("enrolment", "bounded-weights", "receipts"),
    ),
}
STANDARD_MEASURES = (
    "differential-privacy",
    "privacy-ledger",
    "rows-stay",
    "opt-outs",
    "pseudonyms",
    "permits",
    "receipts",
    "sensitive-inputs",
    "encryption",
    "enrolment",
    "bounded-weights",
    "minimum-cohort",
    "size-bands",
    "no-foreign-code",
    "read-only",
    "separation-of-duties",
)


def make_measures(plan: TrainingPlan, say: Say) -> tuple[Measure, ...]:
    """Return what the product does to protect people in a plan's run, with the plan's numbers."""
    privacy = plan.privacy
    facts = {
        "clip": f"{privacy.l2_clip_norm:g}",
        "noise": f"{privacy.noise_multiplier:g}",
        "exchanges": plan.exchanges,
        "epsilon": f"{run_epsilon(plan):.9g}",
        "delta": f"{privacy.delta:g}",
        "max_weight": f"{plan.max_abs_weight:g}",
        "minimum_units": plan.minimum_units,
    }
    return tuple(
        Measure(
            id=id_,
            title=say(f"measure.{id_}.title"),
            text=say(f"measure.{id_}.text", **facts),
            kind=_kind(id_),
        )
        for id_ in STANDARD_MEASURES
    )


def make_risks(say: Say) -> tuple[Risk, ...]:
    """Return the standard risks with the measures that lower them, every level at its highest.

    Impacts on people are left to whoever judges them.
    """
    return tuple(
        Risk(
            id=id_,
            event=event,
            text=say(f"risk.{id_}.text"),
            sources=tuple(say(f"source.{source}") for source in sources),
            threats=(say(f"risk.{id_}.threat"),),
            measures=measures,
            severity_before=_HIGHEST,
            likelihood_before=_HIGHEST,
            severity_after=_HIGHEST,
            likelihood_after=_HIGHEST,
        )
        for id_, (event, sources, measures) in STANDARD_RISKS.items()
    )


def list_unjudged(dpia: Dpia) -> tuple[str, ...]:
    """Return the risks whose levels are all the highest still, as a draft is made.

    A risk that no measure lowers may stay so: then its judge has nothing to change.
    """
    return tuple(
        risk.id
        for risk in dpia.risks
        if {
            risk.severity_before,
            risk.likelihood_before,
            risk.severity_after,
            risk.likelihood_after,
        }
        == {_HIGHEST}
    )


def _kind(measure: str) -> Literal["technical", "organisational"]:
    return "organisational" if measure in _ORGANISATIONAL else "technical"
