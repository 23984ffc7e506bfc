"""The audits themselves: below the claim on the product, above it on a broken one."""

import numpy as np
import pytest

from fedcore.privacy import engines
from fedcore.privacy.mechanisms import BookKeepingOptimizer
from simulations.noise import SeededNoise

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("audit")]
ORDER, COUNT = 64, 1500


class NoiseOnTheMean(BookKeepingOptimizer):
    """Noise that was meant for the mean, on a sum that is yet to be divided."""

    noise_multiplier: float

    def add_noise(self) -> None:
        stated = self.noise_multiplier
        self.noise_multiplier = stated / self.expected_batch_size
        super().add_noise()
        self.noise_multiplier = stated


class ClippedPerBatch(BookKeepingOptimizer):
    """What `clip_grad_norm_` on a batch's mean loss does: the mean is clipped, nobody's part is."""

    def clip_and_accumulate(self):
        norms = self._books.norms()
        self._books.add_sums(norms.new_ones(len(norms)), self._sums)
        mean = self._sum.norm() / max(len(norms), 1)
        self._sum.mul_((self.max_grad_norm / mean).clamp(max=1.0))


BROKEN = {"noise on the mean": NoiseOnTheMean, "clipped per batch": ClippedPerBatch}


@pytest.fixture(scope="module")
def shown(audit, runs, worlds):
    """What so many updates show at a false alarm of one in a million, and at 95 %, and the claim.

    Both units' rows are read once by their nodes' reader.
    """
    terms = audit.WHITE_BOX["full_batch"]
    plan = runs.pair_plan(worlds, ORDER, terms)
    with runs.opened_pair(worlds, ORDER, plan, SeededNoise(1)) as federation:
        read = {unit: runs.reader(federation, plan, unit)() for unit in (runs.WITH, runs.WITHOUT)}
    units = {unit: lambda unit=unit: read[unit] for unit in read}

    def of(noise, count):
        found = audit.errors_of(plan, runs.observe(worlds, plan, units, count, noise))
        levels = (1 - audit.FALSE_ALARM, audit.CONFIDENCE)
        return [audit.white_box_bound(terms, found, level) for level in levels]

    return of, worlds.run_claim(plan)


def test_what_is_observed_is_what_leaves_a_node_to_the_bit(audit):
    assert audit.same_exchanges() == {"exchanges_compared": 16, "exchanges_not_the_same": 0}


def test_repeated_updates_show_more_than_half_of_the_claim_and_never_more_than_it(shown):
    of, claim = shown
    careful, likely = of(SeededNoise(1), COUNT)
    assert careful < likely
    assert claim / 2 <= likely <= claim


@pytest.mark.parametrize("name", ["halved noise", *BROKEN])
def test_a_broken_mechanism_shows_more_than_it_claims(shown, audit, faults, name, monkeypatch):
    of, claim = shown
    noise = SeededNoise(1)
    if name in BROKEN:
        monkeypatch.setattr(engines, "BookKeepingOptimizer", BROKEN[name])
    else:
        noise = audit.HalvedNoise(noise)
    careful, _ = of(noise, faults[name].count)
    assert careful > claim


def test_guesses_in_one_run_show_a_third_of_the_claim_and_never_more_than_it(audit, runs, worlds):
    scores = runs.one_run(worlds, runs.Terms(8.0), (1024, 2), SeededNoise(1), seed=1)
    assert scores.claim == pytest.approx(8.0, abs=1e-3)
    assert 900 < scores.inside.sum() < 1150
    guessed, right = scores.guess(audit.ONE_RUN_SHARES[8.0])
    found = audit.bounds.Guesses(len(scores.told), guessed, right)
    bound = audit.bounds.one_run_epsilon(found, runs.DELTA, audit.CONFIDENCE)
    assert scores.claim / 3 <= bound <= scores.claim
    # Guesses by coins that played no part show nothing.
    others = np.random.default_rng(2).random(len(scores.told)) < 0.5
    guessed, right = runs.Scores(scores.told, others, scores.claim).guess(0.1)
    nothing = audit.bounds.Guesses(len(scores.told), guessed, right)
    assert audit.bounds.one_run_epsilon(nothing, runs.DELTA, 1 - audit.FALSE_ALARM) == 0
