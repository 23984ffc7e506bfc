import pytest

from fedcore.models import EpsilonClaim
from fedcore.rounds import Receipt


def claims(change):
    """Return an edit of a model's epsilon claims."""
    return lambda model: model.model_copy(update={"epsilon": tuple(change(model.epsilon))})


def first_with(**update):
    return lambda stated: [stated[0].model_copy(update=update), *stated[1:]]


@pytest.mark.parametrize(
    "lie",
    [
        lambda stated: first_with(claim=stated[0].claim - 1e-4)(stated),
        lambda stated: first_with(claim=stated[0].claim + 1e-4)(stated),
        lambda stated: first_with(pld=stated[0].pld - 1e-4)(stated),
        lambda stated: stated[1:],
        lambda stated: [*stated, stated[0]],
        lambda stated: [*stated, EpsilonClaim(unit="east", claim=0, pld=0)],
    ],
    ids=["lowered", "raised", "pld", "left out", "twice", "another unit"],
)
def test_an_epsilon_that_does_not_follow_from_the_receipts_fails(world, evidence, failures, lie):
    lied = world.relabelled(evidence, model_version=claims(lie))
    assert set(failures(world, lied)) == {"epsilon"}


def test_a_difference_of_rounding_only_passes(world, evidence, failures):
    def rounded(stated):
        return [
            EpsilonClaim(unit=c.unit, claim=round(c.claim, 7), pld=round(c.pld, 7)) for c in stated
        ]

    assert failures(world, world.relabelled(evidence, model_version=claims(rounded))) == {}


@pytest.mark.parametrize(("epsilon", "holds"), [(1.47, False), (1.49, True)])
def test_more_epsilon_than_granted_fails(world, failures, epsilon, holds):
    def granted(permit):
        cohort = [grant.model_copy(update={"epsilon": epsilon}) for grant in permit.cohort]
        return permit.model_copy(update={"cohort": tuple(cohort)})

    found = failures(world, world.evidence(permit=granted))
    assert set(found) == (set() if holds else {"epsilon"})


def test_answers_of_void_rounds_are_charged(evidence, world, failures):
    """North answered four times, the last of which is a void round that trained nothing."""

    def without_void(stated):
        south = next(claim for claim in stated if claim.unit == "south")
        return first_with(claim=south.claim, pld=south.pld)(stated)

    lied = world.relabelled(evidence, model_version=claims(without_void))
    assert "receipts of north" in failures(world, lied)["epsilon"]


@pytest.mark.parametrize("noise", [1e-155, 1e-300, 1e300])
def test_noise_at_which_arithmetic_overflows_fails(world, evidence, failures, noise):
    def silent(envelope):
        receipt = Receipt.from_bytes(envelope.payload_bytes)
        event = receipt.event.model_copy(update={"noise_multiplier": noise})
        return world.sign(receipt.model_copy(update={"event": event}), world.nodes[receipt.unit])

    receipts = tuple(silent(envelope) for envelope in evidence.receipts)
    found = failures(world, world.reseal(evidence, receipts=receipts))
    assert "event.noise_multiplier" in found["receipts.signed"]
