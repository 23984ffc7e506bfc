"""A run that weighs or penalises by a group that no model takes, from the DPIA to the model."""

import pytest

from clients import runtime
from clients.settings import NodeSettings
from clients.subject_reports import make_report
from fedcore import canonical
from fedcore.dpias import FairnessBound
from fedcore.errors import RefusedError
from fedcore.fairness_bindings import AttributeUse, AuditTerms, SensitiveAttribute
from fedcore.mitigation import CovariancePenalty, GroupPenalty, GroupWeight, Reweighing
from simulations.paperwork import make_dpia

UNITS = ("north", "south")
CHANNEL = SensitiveAttribute(name="channel", groups=("shop", "web"))
WEIGHED = Reweighing(
    kind="reweighing",
    attribute=CHANNEL,
    weights=(GroupWeight(group="web", positive=True, weight=3.0),),
)
PENALISED = CovariancePenalty(
    kind="covariance",
    attribute=CHANNEL,
    penalties=(GroupPenalty(group="web", share=0.5, strength=2.0),),
)


@pytest.fixture(scope="module")
def plan_of(worlds):
    """A plan of one round without the channel among its inputs."""

    def of(mitigation):
        once = worlds.make_plan().algorithm.model_copy(update={"average_last": 1})
        whole = worlds.make_plan(UNITS, rounds=1, algorithm=once)
        features = tuple(f for f in whole.features if f.field in {"tenure", "charge"})
        lean = whole.model_copy(update={"features": features})
        changes = {
            "initial_model": canonical.digest(worlds.first_model(lean)),
            "mitigation": mitigation,
        }
        return lean.model_copy(update=changes)

    return of


def allow(world, version, *uses):
    """Put a DPIA into force that binds an audit by channel, and these uses of it."""
    dpia = make_dpia(world.plan, world.federation.contract, 50.0, world.clock.now())
    bound = FairnessBound(
        attribute="channel", metric="demographic_parity_difference", largest_gap=0.9
    )
    use = AttributeUse(
        attribute="channel", uses=uses or ("decision",), largest_weight=3.0, largest_strength=2.0
    )
    changes = {
        "fairness": (bound,),
        "fairness_audit": AuditTerms(attributes=(CHANNEL,), minimum_size=1),
        "fairness_mitigation": (use,) if uses else None,
    }
    bindings = dpia.bindings.model_copy(update=changes)
    world.federation.put_in_force(
        dpia.model_copy(update={"version": version, "bindings": bindings})
    )


def agree(world, *units, groups='["channel"]'):
    """Have these units name the attributes that they may be trained by."""
    for unit in units:
        path = world.unit(unit).settings
        path.write_text(f"{path.read_text()}training_groups = {groups}\n")


def test_a_group_that_is_no_input_changes_the_updates_and_not_the_charge(build, plan_of):
    found = {}
    for name, mitigation in (("none", None), ("weighed", WEIGHED), ("penalised", PENALISED)):
        world = build(plan_of(mitigation))
        allow(world, 2, "training")
        agree(world, *UNITS)
        world.run()
        with world.unit("north").node() as node:
            examples, events = node.examples(world.plan), node.ledger.events()
        assert (examples.features.shape, examples.groups is None) == ((40, 2), mitigation is None)
        found[name] = (world.updates()["north", 1], tuple(events))
        if mitigation is not None:
            assert examples.groups.columns == ["channel"]
            with runtime.SEAM.bound(world.federation.surroundings):
                settings = NodeSettings.load(world.unit("north").settings)
                (told,) = make_report(settings, "N001", world.clock.now()).runs
            assert told.about["fields"] == ["channel", "charge", "tenure"]
    updates, charges = ({part[place] for part in found.values()} for place in (0, 1))
    assert (len(updates), len(charges)) == (3, 1)


def test_a_dpia_that_does_not_name_training_gets_no_permit_and_its_next_version_does(
    build, plan_of
):
    world = build(plan_of(PENALISED))
    agree(world, *UNITS)
    for version, uses in ((2, ()), (3, ("decision",))):
        allow(world, version, *uses)
        with pytest.raises(RefusedError) as refused:
            world.run(f"run-{version}")
        assert refused.value.codes == ("fairness.use_not_bound",)
    allow(world, 4, "training", "decision")
    world.run("run-4")
    assert world.model()


def test_a_unit_is_trained_by_no_group_that_it_has_not_named_and_charged_nothing(build, plan_of):
    world = build(plan_of(WEIGHED))
    allow(world, 2, "training")
    agree(world, "north")
    agree(world, "south", groups='["age"]')
    with pytest.raises(RefusedError) as refused:
        world.run("run-2")
    assert refused.value.codes == ("policy.training_group_not_allowed", "run.too_few_units")
    for unit in UNITS:
        with world.unit(unit).node() as node:
            assert node.ledger.events() == []
    path = world.unit("south").settings
    path.write_text(path.read_text().replace('["age"]', '["age", "channel"]'))
    world.run("run-3")
    assert world.model()
