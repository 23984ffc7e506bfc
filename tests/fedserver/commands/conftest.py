"""What the commands of `fedpact server` are run with: a contract, a plan, and the command line."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from click.testing import CliRunner

from fedcore import cli
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.learning_rules import Algorithm
from fedcore.mitigation import GroupWeight, Reweighing
from fedcore.plans import Feature, MetricFloor, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from simulations.deployment_processes import free_port


@pytest.fixture
def unused_port() -> int:
    """A port of loopback that nobody listens on."""
    return free_port()


@pytest.fixture(scope="session")
def fedpact() -> Callable[..., tuple[int, str]]:
    """Runs a command of `fedpact server plan`; returns its exit code and what it says."""

    def run(*arguments: object) -> tuple[int, str]:
        entry = EntryPoint("server", "fedserver.cli:app [server]", cli.COMMANDS_GROUP)
        root = cli.RootCommand({"server": entry})
        found = CliRunner().invoke(root, ["server", "plan", *map(str, arguments)])
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        return found.exit_code, found.output

    return run


@pytest.fixture(scope="session")
def contract_of() -> Callable[..., Contract]:
    """Returns a contract about customers with these fields."""

    def make(*fields: ContractField) -> Contract:
        return Contract(
            contract_id="customers",
            version=1,
            title="Customers",
            source="The public price list.",
            subject=SubjectRule(
                column="customer_id", namespace="customer-number", normaliser="trim-upper/1"
            ),
            fields=fields,
            label=Label(name="churn", positive="Yes", negative="No", horizon_days=30),
            purposes=(
                Purpose(id="retention", text="Keep customers", basis="legitimate_interests"),
            ),
            retention_days=365,
        )

    return make


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., TrainingPlan]:
    """Returns a plan of two units to train for churn by a contract, with these features."""

    def make(contract: Contract, features: tuple[Feature, ...], **changes: Any) -> TrainingPlan:
        values: dict[str, Any] = {
            "title": "Churn",
            "task": "churn",
            "purpose": "retention",
            "contract": contract.digest,
            "features": features,
            "units": tuple(UnitTerms(unit=unit, public_n=384) for unit in ("north", "south")),
            "minimum_units": 2,
            "model": ModelSpec(kind="logistic"),
            "initial_model": contract.digest,
            "algorithm": Algorithm(local_learning_rate=0.5),
            "rounds": 3,
            "spare_rounds": 1,
            "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
        }
        return TrainingPlan(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def of_scores() -> Callable[[TrainingPlan], TrainingPlan]:
    """Returns a plan with what only models that score have: a mitigation and floors."""

    def change(plan: TrainingPlan) -> TrainingPlan:
        weights = (GroupWeight(group="plus", positive=True, weight=2.0),)
        attribute = SensitiveAttribute(name="tariff", groups=("basic", "plus"))
        mitigation = Reweighing(kind="reweighing", attribute=attribute, weights=weights)
        floors = (MetricFloor(metric="auc", floor=0.5),)
        return plan.model_copy(update={"mitigation": mitigation, "metric_floors": floors})

    return change
