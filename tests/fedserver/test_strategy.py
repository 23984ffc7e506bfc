import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fedcore.learning_rules import Algorithm, EarlyStopping, ServerAdam
from fedserver import strategy

SIZES = {"north": 48, "south": 96, "west": 768}
SHAPES = {"0.bias": (2,), "0.weight": (2, 3)}


def weights(rng, scale=1.0):
    return {name: rng.normal(scale=scale, size=shape) for name, shape in SHAPES.items()}


def replanned(plan, **algorithm):
    values = {**plan.algorithm.model_dump(), **algorithm}
    return plan.model_copy(update={"algorithm": Algorithm(**values)})


def plain(first, rounds, momentum, average_last, bound):
    """FedAvg with momentum in a few lines of numpy over one flat vector."""
    model, velocity, late = first, np.zeros_like(first), []
    for updates in rounds:
        total = sum(SIZES[unit] for unit in updates)
        mean = sum(SIZES[unit] / total * update for unit, update in updates.items())
        velocity = momentum * velocity + mean
        model = np.clip(model + velocity, -bound, bound)
        late.append(model)
    return np.mean(late[-average_last:], axis=0)


def flat(found):
    return np.concatenate([found[name].ravel() for name in sorted(found)])


@hypothesis_settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.lists(st.sets(st.sampled_from(sorted(SIZES)), min_size=1), min_size=5, max_size=5),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.integers(1, 5),
    st.sampled_from([0.5, 3.0]),
)
def test_a_run_is_plain_fedavg_with_momentum_bound_and_averaging(
    plan, seed, cohorts, momentum, average_last, scale
):
    rng = np.random.default_rng(seed)
    plan = replanned(plan, server_momentum=momentum, average_last=average_last)
    first = weights(rng)
    rounds = [{unit: weights(rng, scale) for unit in cohort} for cohort in cohorts]
    state = strategy.start(first)
    for number, updates in enumerate(rounds, start=1):
        state = strategy.apply_round(state, plan, number, updates)
    flattened = [{unit: flat(update) for unit, update in updates.items()} for updates in rounds]
    expected = plain(flat(first), flattened, momentum, average_last, plan.max_abs_weight)
    assert flat(strategy.release(state, plan, plan.rounds)) == pytest.approx(expected, abs=1e-12)


def constant(value):
    return {name: np.full(shape, float(value)) for name, shape in SHAPES.items()}


@hypothesis_settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1e-3, 0.5, 0.9, 1 - 1e-9]), st.sampled_from([1, 7]))
def test_with_a_decay_the_release_is_the_mean_of_all_rounds_each_counting_less_than_the_next(
    plan, seed, decay, rounds
):
    rng = np.random.default_rng(seed)
    plan = replanned(plan, average_decay=decay, average_last=1).model_copy(
        update={"rounds": rounds}
    )
    state, models = strategy.start(weights(rng)), []
    for number in range(1, rounds + 1):
        state = strategy.apply_round(state, plan, number, {"north": weights(rng)})
        models.append(flat(state.model))
    shares = decay ** np.arange(rounds)[::-1]
    expected = shares @ np.array(models) / shares.sum()
    assert flat(strategy.release(state, plan, plan.rounds)) == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )


def plain_adam(first, rounds, adam, bound):
    """FedAdam in a few lines of numpy over one flat vector."""
    model, mean, square = first, np.zeros_like(first), np.zeros_like(first)
    for count, updates in enumerate(rounds, start=1):
        total = sum(SIZES[unit] for unit in updates)
        change = sum(SIZES[unit] / total * update for unit, update in updates.items())
        mean = adam.beta1 * mean + (1 - adam.beta1) * change
        square = adam.beta2 * square + (1 - adam.beta2) * change**2
        root = np.sqrt(square / (1 - adam.beta2**count))
        step = adam.learning_rate * mean / (1 - adam.beta1**count) / (root + adam.stabiliser)
        model = np.clip(model + step, -bound, bound)
    return model


@hypothesis_settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.lists(st.sets(st.sampled_from(sorted(SIZES)), min_size=1), min_size=5, max_size=5),
    st.builds(
        ServerAdam,
        kind=st.just("adam"),
        learning_rate=st.sampled_from([0.01, 1.0, 20.0]),
        beta1=st.sampled_from([0.0, 0.9]),
        beta2=st.sampled_from([0.0, 0.99]),
        stabiliser=st.sampled_from([1e-8, 1e-3]),
    ),
)
def test_with_a_server_optimizer_a_run_is_plain_fedadam(plan, seed, cohorts, adam):
    rng = np.random.default_rng(seed)
    plan = replanned(plan, server_momentum=0.0, server_optimizer=adam, average_last=1)
    state = strategy.start(weights(rng))
    first = flat(state.model)
    rounds = [{unit: weights(rng, 0.1) for unit in cohort} for cohort in cohorts]
    for number, updates in enumerate(rounds, start=1):
        state = strategy.apply_round(state, plan, number, updates)
    flattened = [{unit: flat(update) for unit, update in updates.items()} for updates in rounds]
    expected = plain_adam(first, flattened, adam, plan.max_abs_weight)
    assert flat(strategy.release(state, plan, plan.rounds)) == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("huge", [1e300, -1e300])
def test_an_update_as_large_as_a_node_may_send_leaves_everything_finite(plan, huge):
    adam = ServerAdam(kind="adam", learning_rate=0.1)
    for plain_or_adam in ({}, {"server_momentum": 0.0, "server_optimizer": adam}):
        changed = replanned(plan, **plain_or_adam)
        state = strategy.start(constant(0))
        for number in range(1, 4):
            state = strategy.apply_round(state, changed, number, {"north": constant(huge)})
        parts = [part for part in vars(state).values() if part]
        assert len(parts) == 3 + bool(plain_or_adam)
        assert all(np.isfinite(flat(part)).all() for part in parts)
        assert (np.abs(flat(state.model)) <= plan.max_abs_weight).all()


def test_a_units_weight_is_its_public_size_over_those_that_answered(plan):
    plan = replanned(plan, server_momentum=0.0)
    state = strategy.start(constant(0))
    all_three = {"north": constant(1), "south": constant(2), "west": constant(3)}
    after = strategy.apply_round(state, plan, 1, all_three)
    assert flat(after.model) == pytest.approx((48 + 2 * 96 + 3 * 768) / 912)
    del all_three["west"]
    after = strategy.apply_round(state, plan, 1, all_three)
    assert flat(after.model) == pytest.approx((48 + 2 * 96) / 144)
    after = strategy.apply_round(state, plan, 1, {"south": constant(2)})
    assert flat(after.model) == pytest.approx(2)


def test_the_order_of_answers_does_not_change_a_bit(plan):
    rng = np.random.default_rng(1)
    for _ in range(20):
        updates = {unit: weights(rng) for unit in SIZES}
        state = strategy.start(weights(rng))
        forth = strategy.apply_round(state, plan, 1, updates)
        back = strategy.apply_round(state, plan, 1, dict(reversed(updates.items())))
        assert flat(forth.model).tobytes() == flat(back.model).tobytes()


@pytest.mark.parametrize("sign", [-1, 1])
def test_no_weight_leaves_the_plans_bound(plan, sign):
    state = strategy.start(constant(sign * 9.9))
    after = strategy.apply_round(state, plan, 1, {"north": constant(sign * 1e300)})
    assert flat(after.model).tolist() == [sign * 10.0] * 8
    inside = strategy.apply_round(state, plan, 1, {"north": constant(sign * 0.05)})
    assert flat(inside.model) == pytest.approx(sign * 9.95)


def test_only_the_last_rounds_count_for_the_release(plan):
    state = strategy.start(constant(0))
    for number in range(1, 6):
        state = strategy.apply_round(state, plan, number, {"north": constant(number)})
        late = flat(state.late_sum)
        assert late.any() == (number > 3)


def test_a_round_leaves_the_state_before_it_as_it_was(plan):
    rng = np.random.default_rng(2)
    state = strategy.start(weights(rng))
    before = [flat(part).copy() for part in (state.model, state.momentum, state.late_sum)]
    strategy.apply_round(state, plan, 5, {"north": weights(rng)})
    after = [flat(part) for part in (state.model, state.momentum, state.late_sum)]
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))


ADAM = ServerAdam(kind="adam", learning_rate=0.5)


@pytest.mark.parametrize(
    "terms",
    [
        {"average_last": 1, "server_momentum": 0.9},
        {"average_last": 1, "average_decay": 0.6},
        {"average_last": 1, "server_momentum": 0.0, "server_optimizer": ADAM},
    ],
    ids=["the last model", "a decaying mean", "adam"],
)
def test_a_run_with_checks_that_ends_early_releases_what_its_rounds_alone_would(plan, terms):
    rng = np.random.default_rng(7)
    alone = replanned(plan, **terms).model_copy(update={"rounds": 3})
    stopping = {"rounds": 9, "early_stopping": EarlyStopping(every=1, patience=3)}
    checked = alone.model_copy(update=stopping)
    first, updates = weights(rng), [{"north": weights(rng)} for _ in range(3)]
    plain = with_checks = strategy.start(first)
    for number, each in enumerate(updates, start=1):
        plain = strategy.apply_round(plain, alone, number, each)
        with_checks = strategy.apply_round(with_checks, checked, 2 * number - 1, each)
        with_checks = strategy.apply_check(with_checks, checked, [0])
    found, expected = (
        flat(strategy.release(with_checks, checked, 6)),
        flat(strategy.release(plain, alone, 3)),
    )
    assert found.tobytes() == expected.tobytes()
    assert np.any(found)
    assert with_checks.missed == 3


def test_a_check_that_finds_better_keeps_the_model_and_counts_anew(plan):
    stopping = EarlyStopping(every=1, patience=2)
    plan = plan.model_copy(update={"rounds": 9, "early_stopping": stopping})
    state = strategy.start(weights(np.random.default_rng(1)))
    missed = strategy.apply_check(state, plan, [0])
    assert (missed.missed, missed.best) == (1, {})
    better = strategy.apply_check(missed, plan, [10**15])
    assert (better.missed, flat(better.best).tobytes()) == (0, flat(state.model).tobytes())
    assert strategy.apply_check(better, plan, [0]).missed == 1
