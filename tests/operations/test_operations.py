"""What docs/operations tells operators to type works, all of it, in the order that it says."""

import importlib.util
import json
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fedcore.record import Realm
from simulations.deployment_processes import end_marked
from simulations.generated_rows import generate_rows
from simulations.paperwork import make_dpia, make_plan
from simulations.scenario import ScenarioUnit, load_scenario

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
UNITS = ("unit-a", "unit-b")
BAND, EPSILON = 1024, 1.0
WORDS = re.compile(r"\b([a-z]+(?: [a-z]+){7})\s*$", re.MULTILINE)
KEY = re.compile(r"\b([0-9a-f]{64})\b")
CODE = re.compile(r"code[^\n]*?:\s+(\S+)\s*$", re.MULTILINE)


def load(name):
    spec: Any = importlib.util.spec_from_file_location(f"operations_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


operations = load("operations")


@pytest.fixture
def machines(tmp_path):
    mark = f"operations-{secrets.token_hex(8)}"
    made = operations.Machines(tmp_path, mark)
    yield made
    for program in made.running.values():
        program.kill()
    end_marked(mark)


def write_papers(machines):
    """What people have written before the first command: contract, plan, DPIA, and the rows."""
    given = load_scenario("telco")
    units = tuple(
        ScenarioUnit(unit=unit, label=unit, size_band=BAND, epsilon_cap=4.0) for unit in UNITS
    )
    terms = given.plan.model_copy(update={"minimum_units": 2, "holdout": 0.25})
    changes = {"rounds": 3, "epsilon": EPSILON, "units": units, "plan": terms}
    scenario = given.model_copy(update=changes)
    plan = make_plan(scenario)
    papers = {
        "contract.json": scenario.contract,
        "plan.json": plan,
        "dpia.json": make_dpia(plan, scenario.contract, EPSILON, datetime.now(UTC)),
    }
    for name, record in papers.items():
        (machines.folder("governance") / name).write_text(json.dumps(record.to_json(), indent=2))
    for unit in UNITS:
        rows = generate_rows(scenario.contract, unit, 200, seed=3)
        rows.write_csv(machines.folder(unit) / "customers.csv")


def write_settings(machines, text):
    key = machines.root.joinpath("governance/governance.pub").read_text().split()[-1]
    for name, where, content in operations.FILE.findall(text):
        for unit in where.split(", "):
            machines.write(name, unit, content, key)


def enrol(machines, step):
    """The telephone call: what one operator's screen shows, the other one types."""
    office = machines.folder("governance")
    for unit in UNITS:
        (office / "answer.json").unlink(missing_ok=True)
        request = machines.folder(unit) / "request.json"
        (office / "request.json").write_bytes(request.read_bytes())
        machines.run(step, "governance", machines.words[unit] + "\n")
        answer = (office / "answer.json").read_bytes()
        (machines.folder(unit) / "answer.json").write_bytes(answer)


def stop(machines, machine):
    machines.running.pop(machine).stop()


def do(machines, step, text):
    for machine in step.machines:
        for remark in step.remarks:
            if remark.startswith("gets ") and remark != "gets its answer":
                machines.fetch(remark, machine)
        if "stops its node" in step.remarks and machine in machines.running:
            stop(machines, machine)
        if operations.BACKGROUND in step.remarks:
            machines.start(step, machine)
        elif "restarts governance" in step.remarks:
            serve = next(s for s in operations.steps(text) if s.number == 110)
            stop(machines, "governance")
            machines.run(step, machine)
            machines.start(serve, "governance")
        else:
            shown = machines.run(step, machine)
            learn(machines, step.number, machine, shown)


def found(pattern, text):
    match = pattern.search(text)
    assert match, text
    return match[1]


def learn(machines, number, machine, shown):
    """What an operator reads off the screen and needs later."""
    if number in {100, 115}:
        machines.variables["CODE"] = found(CODE, shown)
    if number == 200:
        machines.variables["SERVER_KEY"] = found(KEY, shown)
    if number == 220:
        machines.variables["AUTHOR_KEY"] = found(KEY, shown)
    if number == 300:
        machines.words[machine] = found(WORDS, shown)


def test_every_block_of_commands_is_run_by_a_test():
    assert operations.unmarked_blocks(operations.pages(ROOT)) == []


def test_every_command_of_the_operations_pages_works_in_its_place(machines):
    text = operations.pages(ROOT)
    write_papers(machines)
    for step in operations.steps(text):
        if step.number == 300:
            write_settings(machines, text)
        if "words" in step.remarks:
            enrol(machines, step)
        else:
            do(machines, step, text)
    assert (
        Realm.PRODUCTION.value
        in machines.folder("governance").joinpath("governance/governance.toml").read_text()
    )
    assert "churn" in machines.shown[500]
    assert "finished" in machines.shown[510]
    assert "customers set aside in training at 2 units" in machines.shown[550]
    assert machines.shown[550].count("charged to unit-") == len(UNITS)
    assert "unit-b" in machines.shown[900]
    assert "churn" in machines.shown[920]
