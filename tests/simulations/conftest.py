"""A small scenario of made-up customers: three units, two fields, quick."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.scenario import Scenario, load_scenario

SCENARIO = """
title = "Made-up customers"
data = "customers.csv"
unit_column = "branch"
seed = 3
epsilon = 2.0
delta = 1e-5
rounds = 3
units = [
  { unit = "east", label = "East", size_band = 64, epsilon_cap = 4.0 },
  { unit = "north", label = "North", size_band = 64, epsilon_cap = 4.0 },
  { unit = "west", label = "West", size_band = 64, epsilon_cap = 4.0 },
]
opt_outs = [
  { unit = "east", customers = 2, purpose = "marketing" },
  { unit = "west", customers = 1, purpose = "churn", after_round = 1 },
  { unit = "west", customers = 1, purpose = "statistics", after_round = 1 },
]

[plan]
purpose = "churn"
minimum_units = 2
l2_clip_norm = 1.0
model = { kind = "logistic" }
algorithm = { local_learning_rate = 1.0, server_momentum = 0.5, average_last = 2 }
features = [
  { field = "age", encoding = "scale" },
  { field = "plan", encoding = "onehot" },
]

[contract]
schema = "contract/1"
contract_id = "made-up"
version = 1
title = "Made-up customers"
source = "invented"
retention_days = 365
subject = { column = "id", namespace = "made-up-number", normaliser = "trim-upper/1" }
label = { name = "left", positive = "yes", negative = "no", horizon_days = 30 }
purposes = [
  { id = "marketing", text = "Marketing", basis = "legitimate_interests" },
  { id = "churn", text = "Churn", parent = "marketing", basis = "legitimate_interests" },
  { id = "statistics", text = "Statistics", basis = "legitimate_interests" },
]
fields = [
  { name = "age", kind = "numeric", unit = "years", lower = 18, upper = 100 },
  { name = "plan", kind = "categorical", categories = ["basic", "plus"] },
]
"""


def customer_rows(count: int = 240) -> list[str]:
    draw = random.Random(5)  # noqa: S311 - invented customers, always the same
    rows = []
    for number in range(count):
        age, tariff = draw.randint(18, 100), draw.choice(["basic", "plus"])
        left = "yes" if draw.random() < (0.7 if age < 50 else 0.2) else "no"
        branch = ("east", "north", "west")[number % 3]
        rows.append(f"K{number},{age},{tariff},{left},{branch}")
    return rows


def write_scenario(folder: Path, rows: list[str] | None = None, text: str = SCENARIO) -> Path:
    table = "\n".join(["id,age,plan,left,branch", *(customer_rows() if rows is None else rows)])
    (folder / "customers.csv").write_text(table + "\n", encoding="utf-8")
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def scenario_writer() -> Callable[..., Path]:
    return write_scenario


@pytest.fixture(scope="session")
def scenario_text() -> str:
    return SCENARIO


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    return write_scenario(tmp_path)


@pytest.fixture
def scenario(scenario_file: Path) -> Scenario:
    return load_scenario(str(scenario_file))
