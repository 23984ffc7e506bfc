import ast
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedcore.privacy.noise import KeyStream, SystemNoise
from simulations.noise import SeededNoise

ROOT = Path(__file__).parents[3]
COUNT = 200_000


def stream(name):
    return KeyStream(hashlib.sha256(name.encode()).digest())


def is_standard_normal(numbers):
    """Accept the right scale and refuse others; a sound stream fails once in a million."""
    return stats.kstest(numbers, "norm").pvalue > 1e-6


# Uniforms


def test_uniforms_are_multiples_of_two_to_the_minus_53_above_zero_up_to_one():
    found = stream("grid").uniforms(COUNT)
    scaled = found * 2.0**53
    assert np.array_equal(scaled, np.floor(scaled))
    assert found.min() > 0
    assert found.max() <= 1


def test_uniforms_use_all_53_bits():
    words = (stream("bits").uniforms(COUNT) * 2.0**53).astype(np.uint64) - np.uint64(1)
    shares = [np.mean((words >> np.uint64(bit)) & np.uint64(1)) for bit in range(53)]
    assert np.abs(np.array(shares) - 0.5).max() < 6 / np.sqrt(4 * COUNT)


class Ends:
    """A cipher whose words are the smallest or the greatest."""

    def __init__(self, byte):
        self.byte = byte

    def update(self, data):
        return bytes([self.byte]) * len(data)


@pytest.mark.parametrize(("byte", "value"), [(0, 2.0**-53), (255, 1.0)])
def test_the_ends_of_the_range_are_finite_normals(byte, value):
    ended = KeyStream(bytes(32))
    vars(ended)["_cipher"] = Ends(byte)
    assert ended.uniforms(3).tolist() == [value] * 3
    assert np.isfinite(ended.normals(4)).all()


def test_uniforms_are_uniform():
    assert stats.kstest(stream("uniform").uniforms(COUNT), "uniform").pvalue > 1e-6


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_stream_goes_on_where_it_stopped_and_never_repeats(first, second):
    whole = stream("parts").uniforms(first + second)
    parted = stream("parts")
    parts = np.concatenate([parted.uniforms(first), parted.uniforms(second)])
    assert np.array_equal(whole, parts)
    assert len(set(whole.tolist())) == first + second


@given(st.integers(0, 40), st.floats(0, 1), st.integers(0, 10**6))
def test_which_numbers_are_at_most_a_rate_is_said_as_by_the_numbers(count, rate, seed):
    numbers = stream(str(seed)).uniforms(count + 1)
    # A number itself, and what lies just below and above it.
    near = [step + 2.0**-53 * by for step in numbers[:-1] for by in (-1, 0, 1)]
    for bound in (rate, *near, 1.0):
        fresh = stream(str(seed))
        assert np.array_equal(fresh.below(count, bound), np.flatnonzero(numbers[:-1] <= bound))
        assert fresh.uniforms(1) == numbers[-1:]


@pytest.mark.parametrize(("byte", "taken"), [(0, [0, 1, 2]), (255, [])])
def test_the_ends_of_the_range_are_taken_and_left_at_every_rate_but_one(byte, taken):
    ended = KeyStream(bytes(32))
    vars(ended)["_cipher"] = Ends(byte)
    for rate in (2.0**-53, 0.5, 1 - 2.0**-53):
        assert ended.below(3, rate).tolist() == taken
    assert ended.below(3, 1.0).tolist() == [0, 1, 2]


# Normals


@given(st.integers(0, 33))
def test_as_many_normals_come_as_were_asked_for(count):
    assert stream("count").normals(count).shape == (count,)
    assert stream("count").normals(count).dtype == np.float64


def test_normals_have_the_right_scale_and_a_wrong_one_would_be_noticed():
    numbers = stream("scale").normals(COUNT)
    assert is_standard_normal(numbers)
    assert not is_standard_normal(numbers * 2 / 3)
    assert not is_standard_normal(numbers * 3 / 2)
    assert not is_standard_normal(numbers + 0.05)
    assert numbers.var() == pytest.approx(1, abs=6 * np.sqrt(2 / COUNT))


def test_the_tail_is_there():
    numbers = np.abs(stream("tail").normals(2_000_000))
    for bound in (3, 4, 4.5):
        expected = 2_000_000 * 2 * stats.norm.sf(bound)
        assert abs((numbers > bound).sum() - expected) < 6 * np.sqrt(expected)


def test_neighbouring_normals_are_independent():
    numbers = stream("pairs").normals(COUNT)
    half = COUNT // 2
    pairs = [(numbers[:-1], numbers[1:]), (numbers[:half], numbers[half:])]
    for left, right in pairs:
        for one, other in ((left, right), (left**2, right**2)):
            assert abs(np.corrcoef(one, other)[0, 1]) < 6 / np.sqrt(len(left))


# Streams


STREAMS = [
    (unit, order, purpose)
    for unit in ("north", "south")
    for order in ("run-1/1/1", "run-1/2/1", "run-1/1/2", "run-2/1/1")
    for purpose in ("noise", "sampling")
]


@pytest.mark.parametrize("source", [SystemNoise(), SeededNoise(1)], ids=lambda s: s.kind)
def test_streams_of_other_units_orders_or_purposes_are_independent(source):
    numbers = [source.stream(*place).normals(20_000) for place in STREAMS]
    for left, right in itertools.combinations(numbers, 2):
        assert abs(np.corrcoef(left, right)[0, 1]) < 6 / np.sqrt(20_000)
    assert is_standard_normal(np.concatenate(numbers))


def test_seeded_streams_repeat_and_their_labels_do_not_run_together():
    assert np.array_equal(
        SeededNoise(1).stream("n", "1", "x").normals(5),
        SeededNoise(1).stream("n", "1", "x").normals(5),
    )
    firsts = {
        SeededNoise(seed).stream(*place).uniforms(1)[0]
        for seed in (1, 2)
        for place in (("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"))
    }
    assert len(firsts) == 6


def test_system_noise_never_repeats():
    source = SystemNoise()
    firsts = {source.stream("north", "run-1/1/1", "noise").uniforms(1)[0] for _ in range(200)}
    assert len(firsts) == 200
    assert (source.kind, SeededNoise(1).kind) == ("float64-os", "seeded-simulation")


# The house: production randomness takes no seed


def trees(*packages):
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


STATES = {"StateDir", "State"}


def test_nothing_in_fedcore_or_clients_takes_a_seed():
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    taken = [
        (path, argument.arg)
        for path, tree in trees("fedcore", "clients")
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if {"seed", "rng", "generator", "state"} & set(argument.arg.lower().split("_"))
        # A unit's directory, and what became of an objection, are no state of a generator.
        and (argument.annotation is None or ast.unparse(argument.annotation) not in STATES)
    ]
    assert taken == []


def test_no_other_generator_is_used_in_fedcore_or_clients():
    """But for the public first weights, which are a constant."""
    banned = {"random", "manual_seed", "Generator", "default_rng", "rand", "randn", "normal"}
    used = {
        (path, node.attr)
        for path, tree in trees("fedcore", "clients")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in banned
    }
    public = {"manual_seed", "Generator", "rand"}
    assert used == {("fedcore/tasks/task.py", name) for name in public}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_neither_fedcore_nor_clients_nor_fedserver_can_import_seeded_noise():
    foreign = [
        (path, name)
        for path, tree in trees("fedcore", "clients", "fedserver")
        for name in imported(tree)
        if name.split(".")[0] in {"simulations", "random", "secrets"}
    ]
    assert foreign == []
