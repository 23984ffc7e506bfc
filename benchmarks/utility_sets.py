"""Four real tables as scenarios that say nothing which the default rule picks.

`telco` has the demo's fields and edges, which its author wrote down; of the others, and of
`telco-all`, the rule picks the inputs as well. `bank_marketing-no-year` is without the year of the
call, which is known when it is made, but which not everybody counts among the table's columns.
"""

import os
from pathlib import Path

import polars as pl

from simulations.population import export_telco
from simulations.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
# What stands in a table's own column for a unit of the scenario: its label.
OWN_COLUMN = {"bankchurners": "Income_Category", "bank_marketing": "job", "cdnow": "cohort"}
FILES = {
    "bankchurners": "bankchurners/bankchurners.csv",
    "bank_marketing": "bank_marketing/bank_full.csv.gz",
    "cdnow": "cdnow/customer_churn39w.csv.gz",
}
NO_YEAR = "bank_marketing-no-year"
NAMES = ("telco", "telco-all", *FILES, NO_YEAR)


def scenario_of(name: str, folder: Path) -> Scenario:
    """Return a set's scenario, whose customers are written to `folder` as CSV.

    Raises: KeyError without the environment's FEDPACT_DATA, the folder of the tables.
    """
    path = folder / f"{name}.csv"
    if name == NO_YEAR:
        scenario = scenario_of("bank_marketing", folder)
        fields = tuple(field for field in scenario.contract.fields if field.name != "year")
        contract = scenario.contract.model_copy(update={"fields": fields})
        return scenario.model_copy(update={"contract": contract})
    if name in FILES:
        scenario = load_scenario(str(HERE / f"utility_{name}.toml"))
        table(name).write_csv(path)
    else:
        scenario = load_scenario("telco")
        export_telco(path)
        left_out = {"l2_clip_norm": None, "algorithm": None}
        left_out |= {"features": ()} if name == "telco-all" else {}
        changes = {"rounds": None, "opt_outs": (), "refusals": False}
        changes["plan"] = scenario.plan.model_copy(update=left_out)
        scenario = scenario.model_copy(update=changes)
    return scenario.model_copy(update={"data": str(path)})


def table(name: str) -> pl.DataFrame:
    """Return a table as text cells, with the scenario's units in the column `unit`."""
    scenario = load_scenario(str(HERE / f"utility_{name}.toml"))
    frame = pl.read_csv(Path(os.environ["FEDPACT_DATA"]) / FILES[name], infer_schema=False)
    units = {unit.label: unit.unit for unit in scenario.units}
    if name == "bank_marketing":
        numbers = pl.Series(range(1, frame.height + 1), dtype=pl.String)
        frame = frame.with_columns(numbers.alias("customer"))
    return frame.with_columns(pl.col(OWN_COLUMN[name]).replace_strict(units).alias("unit"))
