"""`fedpact server plan autoencoder` and `embed`: segments in an embedding, from other plans."""

import json

import pytest

from fedcore import canonical
from fedcore.clusterings import EmbeddingSpec
from fedcore.contracts import ContractField
from fedcore.plans import (
    Feature,
    ModelSpec,
    TrainingPlan,
)
from fedcore.privacy.accounting import renyi_epsilon

ARTIFACT = canonical.digest(b"a trained autoencoder")


@pytest.fixture
def files(contract_of, plan_of, tmp_path):
    """A folder with contract and plan, of a number and a category."""
    contract = contract_of(
        ContractField(name="tenure", kind="numeric", lower=0, upper=72),
        ContractField(name="tariff", kind="categorical", categories=("basic", "plus")),
    )
    features = (
        Feature(field="tenure", encoding="scale"),
        Feature(field="tariff", encoding="onehot"),
    )
    plan = plan_of(contract, features, holdout=0.2)
    for name, record in (("contract", contract), ("plan", plan)):
        (tmp_path / f"{name}.json").write_text(json.dumps(record.to_json()))
    return tmp_path


def read(path):
    return TrainingPlan.from_json(json.loads(path.read_text()))


@pytest.fixture
def make(fedpact, files):
    """Runs `autoencoder` on the plan, with more options."""

    def make(*more):
        common = ("--contract", files / "contract.json", "--epsilon", 2)
        out = files / "autoencoder.json"
        return fedpact("autoencoder", files / "plan.json", *common, "--out", out, *more)

    return make


def test_a_plan_becomes_one_of_an_autoencoder_of_its_features(fedpact, make, files):
    code, output = make("--hidden", "8,4", "--embedding", 2)
    assert code == 0, output
    found, before = read(files / "autoencoder.json"), read(files / "plan.json")
    assert found.model == ModelSpec(kind="autoencoder", hidden=(8, 4), embedding=2)
    assert (found.features, found.units) == (before.features, before.units)
    claim = renyi_epsilon([found.run_event()], found.delta)
    assert 1.99 < claim <= 2
    assert f"claim {claim:.4f}" in output
    checked = fedpact("check", files / "autoencoder.json", "--contract", files / "contract.json")
    assert checked[0] == 0, checked[1]


def test_what_is_of_models_that_score_is_left_behind(make, of_scores, files):
    plan = of_scores(read(files / "plan.json"))
    (files / "plan.json").write_text(json.dumps(plan.to_json()))
    code, output = make()
    assert code == 0, output
    found = read(files / "autoencoder.json")
    assert (found.mitigation, found.metric_floors) == (None, None)


def test_segments_move_into_the_embedding_at_the_price_that_they_have(fedpact, make, files):
    make()
    given = (files / "plan.json", "--contract", files / "contract.json", "--epsilon", 1)
    code, output = fedpact("segments", *given, "--out", files / "segments.json")
    assert code == 0, output
    moved = (files / "segments.json", "--autoencoder", files / "autoencoder.json")
    code, output = fedpact("embed", *moved, "--artifact", ARTIFACT, "--out", files / "e.json")
    assert code == 0, output
    found, before = read(files / "e.json"), read(files / "segments.json")
    assert found.model.course
    assert found.model.course.embedding == EmbeddingSpec(artifact=ARTIFACT, hidden=(16,), width=3)
    assert found.run_event() == before.run_event()
    assert found.features == read(files / "plan.json").features != before.features
    checked = fedpact("check", files / "e.json", "--contract", files / "contract.json")
    assert checked[0] == 0, checked[1]


def test_segments_that_move_elsewhere_continue_no_version_from_before(fedpact, make, files):
    make()
    given = (files / "plan.json", "--contract", files / "contract.json", "--epsilon", 1)
    fedpact("segments", *given, "--out", files / "segments.json", "--continues", ARTIFACT)
    before = read(files / "segments.json").model.course
    assert before
    assert before.continues
    moved = ("--autoencoder", files / "autoencoder.json", "--artifact", ARTIFACT)
    code, output = fedpact("embed", files / "segments.json", *moved, "--out", files / "e.json")
    assert code == 0, output
    found = json.loads((files / "e.json").read_text())
    assert "continues" not in found["model"]["course"]
    found["model"]["course"]["continues"] = before.continues.model_dump(mode="json")
    (files / "next.json").write_text(json.dumps(found))
    for artifact, kept in ((ARTIFACT, before.continues), (canonical.digest(b"another"), None)):
        out = files / f"{artifact[-4:]}.json"
        line = (files / "next.json", *moved[:3], artifact)
        code, output = fedpact("embed", *line, "--out", out)
        assert code == 0, output
        course = read(out).model.course
        assert course
        assert course.continues == kept


def test_other_plans_digests_and_widths_are_refused_by_name(fedpact, make, files):
    make()
    moved = (files / "plan.json", "--autoencoder", files / "autoencoder.json")
    code, output = fedpact("embed", *moved, "--artifact", ARTIFACT, "--out", files / "e.json")
    assert (code, "plan.no_embedding" in output) == (1, True)
    given = (files / "plan.json", "--contract", files / "contract.json", "--epsilon", 1)
    fedpact("segments", *given, "--out", files / "segments.json")
    moved = (files / "segments.json", "--autoencoder", files / "autoencoder.json")
    code, output = fedpact("embed", *moved, "--artifact", "abc", "--out", files / "e.json")
    assert (code, "plan.no_embedding" in output) == (1, True)
    assert not (files / "e.json").exists()
    before = (files / "autoencoder.json").read_bytes()
    named = (*moved, "--artifact", ARTIFACT, "--out", files / "autoencoder.json")
    for code, output in (fedpact("embed", *named), make()):
        assert (code, "file.exists" in output) == (1, True)
    assert (files / "autoencoder.json").read_bytes() == before
    (files / "autoencoder.json").unlink()
    for more in (("--hidden", "wide"), ("--hidden", "0"), ("--embedding", "1")):
        code, output = make(*more)
        assert (code, "plan.model_invalid" in output) == (1, True)
