"""What a plan's features become, told from contract and plan alone: names and number of inputs."""

from fedcore.contracts import Contract, ContractField
from fedcore.errors import MismatchError
from fedcore.plans import Feature, Imputation


def input_names(features: tuple[Feature, ...], contract: Contract) -> list[str]:
    """Return the name of each model input, in order.

    Raises: MismatchError `plan.field_unknown`, `plan.encoding_unfit`, `plan.absence_unsaid`,
        `plan.absence_unfit`.
    """
    return [name for feature in features for name in _names(feature, field_of(feature, contract))]


def field_of(feature: Feature, contract: Contract) -> ContractField:
    """Return the contract's field of a feature. Raises: as `input_names`."""
    field = contract.field_by_name.get(feature.field)
    if field is None:
        raise MismatchError("plan.field_unknown", f"the contract has no field {feature.field}")
    if (feature.encoding == "onehot") != (field.kind == "categorical"):
        raise MismatchError(
            "plan.encoding_unfit", f"encoding {feature.encoding} does not fit field {feature.field}"
        )
    if not set(feature.levels) <= set(field.categories):
        raise MismatchError(
            "plan.encoding_unfit", f"feature {feature.field} names a level outside the contract"
        )
    if any(not field.holds(edge) for edge in feature.edges):
        raise MismatchError(
            "plan.encoding_unfit",
            f"feature {feature.field} has edges outside the field's public bounds: beyond them an "
            "input never changes, leave them out",
        )
    if feature.missing_indicator and field.missing is None:
        raise MismatchError(
            "plan.encoding_unfit",
            f"feature {feature.field} marks empty cells, which the contract does not allow",
        )
    if unsaid_absences((feature,), contract):
        raise MismatchError(
            "plan.absence_unsaid",
            f"{feature.field} may be absent at a unit: say under `absent` what happens there",
        )
    if unfit_absences((feature,), contract):
        raise MismatchError(
            "plan.absence_unfit",
            f"feature {feature.field}: `absent` is for fields that may be absent, and imputes what "
            "the field may hold",
        )
    return field


def unsaid_absences(features: tuple[Feature, ...], contract: Contract) -> list[str]:
    """Return the inputs that may be absent at a unit without the plan saying what happens then."""
    known = contract.field_by_name
    return [
        feature.field
        for feature in features
        if feature.field in known
        and known[feature.field].availability is not None
        and feature.absent is None
    ]


def unfit_absences(features: tuple[Feature, ...], contract: Contract) -> list[str]:
    """Return the inputs with a rule for a field that is at every unit, or with a constant that no
    sound cell of the field could be.
    """
    known = contract.field_by_name
    return [
        feature.field
        for feature in features
        if feature.field in known and _is_unfit(feature, known[feature.field])
    ]


def _is_unfit(feature: Feature, field: ContractField) -> bool:
    if isinstance(feature.absent, Imputation) and not field.holds(feature.absent.impute):
        return True
    return feature.absent is not None and field.availability is None


def levels_of(feature: Feature, field: ContractField) -> tuple[str, ...]:
    """Return the categories that a one-hot feature has a number for."""
    return feature.levels or field.categories[1:]


def _names(feature: Feature, field: ContractField) -> list[str]:
    names = _value_names(feature, field)
    if feature.missing_indicator:
        names.append(f"{field.name} missing")
    if feature.absent_indicator:
        names.append(f"{field.name} absent")
    return names


def _value_names(feature: Feature, field: ContractField) -> list[str]:
    if feature.encoding == "onehot":
        return [f"{field.name}={category}" for category in levels_of(feature, field)]
    if feature.encoding == "edges":
        return [f"{field.name}>{edge:g}" for edge in feature.edges[:-1]]
    return [field.name if feature.encoding == "scale" else f"log {field.name}"]
