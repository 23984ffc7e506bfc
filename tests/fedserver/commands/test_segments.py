"""`fedpact server plan segments`: from a plan to train to one that finds segments."""

import json

import pytest

from fedcore.contracts import ContractField
from fedcore.plans import (
    Feature,
    Imputation,
    PrivacyTerms,
    TrainingPlan,
    UnitTerms,
)
from fedcore.privacy.accounting import renyi_epsilon

ARTIFACT = "sha256:" + "ab" * 32


@pytest.fixture
def contract(contract_of):
    fields = (
        ContractField(name="tenure", kind="numeric", lower=0, upper=72),
        ContractField(name="spend", kind="numeric", lower=0, upper=9000),
        ContractField(name="calls", kind="numeric", lower=0, upper=9, availability="may_be_absent"),
        ContractField(
            name="visits", kind="numeric", lower=0, upper=9, availability="may_be_absent"
        ),
        ContractField(name="tariff", kind="categorical", categories=("basic", "plus")),
    )
    return contract_of(*fields)


@pytest.fixture
def plan(contract, plan_of):
    features = (
        Feature(field="tenure", encoding="edges", edges=(0, 12, 72)),
        Feature(field="spend", encoding="log"),
        Feature(field="tariff", encoding="onehot"),
        Feature(field="calls", encoding="scale", absent=Imputation(impute=0.0, indicator=True)),
        Feature(field="visits", encoding="scale", absent="leave_out"),
    )
    north, south = UnitTerms(unit="north", public_n=384), UnitTerms(unit="south", public_n=384)
    privacy = PrivacyTerms(
        l2_clip_norm=1.0, noise_multiplier=8.0, sampling_rate=0.5, local_steps=3, delta=1e-5
    )
    units = (north.model_copy(update={"absent": ("calls",)}), south)
    return plan_of(contract, features, units=units, privacy=privacy, holdout=0.2)


@pytest.fixture
def files(contract, plan, tmp_path):
    """The paths of plan and contract, as arguments."""
    paths = tmp_path / "plan.json", tmp_path / "contract.json"
    for path, record in zip(paths, (plan, contract), strict=True):
        path.write_text(json.dumps(record.to_json()))
    return (paths[0], "--contract", paths[1])


def test_a_plan_to_train_becomes_one_that_finds_segments_and_keeps_its_units(
    fedpact, plan, files, tmp_path
):
    out = tmp_path / "segments.json"
    code, output = fedpact("segments", *files, "--epsilon", 1, "--out", out)
    assert code == 0, output
    found = TrainingPlan.from_json(json.loads(out.read_text()))
    assert [(f.field, f.encoding) for f in found.features] == [
        ("tenure", "scale"),
        ("spend", "log"),
        ("visits", "scale"),
    ]
    assert "left out calls" in output
    assert "left out tariff" in output
    assert (found.task, found.rounds, found.exchanges) == ("segmentation", 7, 8)
    assert 0.99 < renyi_epsilon([found.run_event()], found.delta) <= 1
    assert found.model.course.spread == 24  # type: ignore[union-attr]
    kept = ("contract", "purpose", "minimum_units", "spare_rounds", "delta")
    assert all(getattr(found, name) == getattr(plan, name) for name in kept)
    assert [u.public_n for u in found.units] == [u.public_n for u in plan.units]
    code, output = fedpact("check", out, *files[1:])
    assert code == 0, output
    assert "centres, 7 rounds" in output


def test_what_is_of_models_that_score_is_left_behind(fedpact, of_scores, plan, files, tmp_path):
    files[0].write_text(json.dumps(of_scores(plan).to_json()))
    out = tmp_path / "segments.json"
    code, output = fedpact("segments", *files, "--epsilon", 1, "--out", out)
    assert code == 0, output
    found = TrainingPlan.from_json(json.loads(out.read_text()))
    assert (found.mitigation, found.metric_floors) == (None, None)


def test_its_noise_is_calibrated_like_that_of_any_other_plan(fedpact, files, tmp_path):
    out, other = tmp_path / "segments.json", tmp_path / "other.json"
    assert fedpact("segments", *files, "--epsilon", 1, "--out", out)[0] == 0
    code, output = fedpact("calibrate", out, "--epsilon", 3, "--out", other)
    assert code == 0, output
    assert "for 8 steps" in output
    found = TrainingPlan.from_json(json.loads(other.read_text()))
    assert 2.98 < renyi_epsilon([found.run_event()], found.delta) <= 3
    assert fedpact("check", other, *files[1:])[0] == 0


@pytest.mark.parametrize(
    ("given", "found"),
    [("5", (5, 5, 24)), ("2-10", (2, 10, 24)), ("3-40", (3, 40, 80))],
)
def test_the_number_of_segments_is_declared_or_found_within_bounds(fedpact, files, given, found):
    out = files[0].with_name("segments.json")
    more = ("--segments", given, "--continues", ARTIFACT)
    code, output = fedpact("segments", *files, "--epsilon", 1, "--out", out, *more)
    assert code == 0, output
    course = json.loads(out.read_text())["model"]["course"]
    told = (course["segments"]["least"], course["segments"]["most"], course["spread"])
    assert (told, course["continues"]["artifact"]) == (found, ARTIFACT)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--segments", "many"), "plan.course_invalid"),
        (("--segments", "5-3"), "plan.course_invalid"),
        (("--segments", "2-"), "plan.course_invalid"),
        (("--segments", "-2"), "plan.course_invalid"),
        (("--segments", "0"), "plan.course_invalid"),
        (("--continues", "the last one"), "plan.course_invalid"),
        (("--epsilon", "1e9"), "privacy.unreachable_epsilon"),
    ],
)
def test_what_cannot_be_planned_is_told_and_nothing_is_written(
    fedpact, files, tmp_path, more, code
):
    out = tmp_path / "segments.json"
    status, output = fedpact("segments", *files, "--epsilon", 1, "--out", out, *more)
    assert status == 1
    assert code in output
    assert not out.exists()


def test_a_plan_without_a_number_and_a_file_that_cannot_be_written_are_told(
    fedpact, plan, files, tmp_path
):
    code, output = fedpact("segments", *files, "--epsilon", 1, "--out", files[0] / "no.json")
    assert (code, "plan.unwritable" in output) == (1, True)
    only = plan.model_copy(update={"features": plan.features[2:4]})
    files[0].write_text(json.dumps(only.to_json()))
    code, output = fedpact("segments", *files, "--epsilon", 1, "--out", tmp_path / "no.json")
    assert (code, "plan.no_segments" in output) == (1, True)
