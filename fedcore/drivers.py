"""What drives a model's score, told from its weights, plan and contract alone: no row is needed.

Of a logistic model exactly: what each field adds to the log-odds over its public states. Of a
network by integrated gradients on a public grid, from the middle of all public states.
Reference: Sundararajan, Taly & Yan (2017), arXiv 1703.01365.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.field_grids import FieldGrid, field_grids
from fedcore.plans import ModelSpec, TrainingPlan
from fedcore.weights import Weights, decode_weights

Matrix = NDArray[np.float64]
# The most and the fewest points of the public grid of a network: a large one gets fewer, so that
# whoever asks has an answer in seconds; the fewest and most nodes of the integral.
GRID, _FEWEST_POINTS = 256, 32
_WORK = 2_000_000_000
_NODES, _MOST_NODES = 16, 128
# The gap that the integral may leave of what attributions must add up to, in log-odds.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Driver:
    """A field's part in the score.

    Attributes:
        effect: in log-odds. Of a logistic model the distance between the states that push most and
            least; of a network the mean size of the field's attribution over the grid.
        most, least: the states that push the score up most, and least.
    """

    field: str
    effect: float
    most: str
    least: str


@dataclass(frozen=True)
class Drivers:
    """All fields, the strongest first.

    Attributes:
        points: of the public grid; 0 where nothing was approximated.
        gap: the largest distance, over the grid, of the sum of all attributions from what it must
            be (completeness), in log-odds; 0 where nothing was approximated.
    """

    kind: Literal["logistic", "mlp"]
    drivers: tuple[Driver, ...]
    points: int
    gap: float


@dataclass(frozen=True)
class DenseNetwork:
    """Linear layers with tanh between them and one output, as `fedcore.tasks.binary` builds them.

    `layers` are weights (outputs, inputs) and biases (outputs,), the first layer first.
    """

    layers: tuple[tuple[Matrix, Matrix], ...]

    def logits(self, points: Matrix) -> Matrix:
        """Return the log-odds of each point, shape (n,)."""
        weight, bias = self.layers[-1]
        return np.asarray(self._hidden(points)[-1] @ weight[0] + bias[0])

    def gradients(self, points: Matrix) -> Matrix:
        """Return the derivative of each point's log-odds by its inputs, shape (n, inputs)."""
        hidden = self._hidden(points)
        slope = np.broadcast_to(self.layers[-1][0][0], hidden[-1].shape)
        for (weight, _), output in zip(self.layers[-2::-1], hidden[:0:-1], strict=True):
            slope = (slope * (1.0 - output**2)) @ weight
        return np.asarray(slope)

    def _hidden(self, points: Matrix) -> list[Matrix]:
        """Return the inputs of each layer, the points first."""
        found = [points]
        for weight, bias in self.layers[:-1]:
            found.append(np.tanh(found[-1] @ weight.T + bias))
        return found


def explain(artifact: bytes, plan: TrainingPlan, contract: Contract) -> Drivers:
    """Return what drives the model that these bytes are.

    Guarantees: a function of its arguments only. Raises: InvalidRecordError as `decode_weights`
        for bytes that are no model of the plan; MismatchError as `input_names`.
    """
    grids = field_grids(plan, contract)
    network = network_of(artifact, plan, contract)
    if plan.model.kind == "logistic":
        weight = network.layers[0][0][0]
        found = [_exact(grid, grid.codes @ weight[list(grid.columns)]) for grid in grids]
        return Drivers("logistic", _sorted(found), 0, 0.0)
    points, places = grid_points(grids, points_for(network))
    baseline = middle(grids)
    attributions, gap = attribute(network, points, baseline)
    found = [
        _over_grid(grid, attributions[:, list(grid.columns)].sum(axis=1), places[:, order])
        for order, grid in enumerate(grids)
    ]
    return Drivers("mlp", _sorted(found), len(points), gap)


def network_of(artifact: bytes, plan: TrainingPlan, contract: Contract) -> DenseNetwork:
    """Return the network of a model's bytes. Raises: as `explain`."""
    widths = [len(input_names(plan.features, contract)), *plan.model.hidden, 1]
    return _network(decode_weights(artifact, _shapes(widths), plan.max_abs_weight), plan.model)


def points_for(network: DenseNetwork) -> int:
    """Return how many points the public grid of a network has, from its size alone."""
    weights = sum(weight.size for weight, _ in network.layers)
    return min(GRID, max(_FEWEST_POINTS, _WORK // (weights * _NODES)))


def attribute(network: DenseNetwork, points: Matrix, baseline: Matrix) -> tuple[Matrix, float]:
    """Return the integrated gradients of each point from a baseline, shape (n, inputs), and the
    largest gap of completeness that is left.

    The integral is by Gauss-Legendre quadrature, with twice the nodes until the gap is at most
    `TOLERANCE` or the nodes are too many.
    """
    nodes = _NODES
    rise = network.logits(points) - network.logits(baseline[None, :])
    while True:
        found = _integrate(network, points, baseline, nodes)
        gap = float(np.max(np.abs(found.sum(axis=1) - rise), initial=0.0))
        if gap <= TOLERANCE or nodes >= _MOST_NODES:
            return found, gap
        nodes *= 2


def middle(grids: Sequence[FieldGrid]) -> Matrix:
    """Return the mean of each input over the public states of its field, shape (inputs,)."""
    found = np.zeros(sum(len(grid.columns) for grid in grids))
    for grid in grids:
        found[list(grid.columns)] = grid.codes.mean(axis=0)
    return found


def grid_points(grids: Sequence[FieldGrid], count: int) -> tuple[Matrix, NDArray[np.int64]]:
    """Return points that spread evenly over the public states of all fields, shape (count, inputs),
    and the place of each field's state, shape (count, fields).

    The states of a field are taken by the additive sequence of the root of a prime of its own: no
    chance is in it, and no two fields move together.
    """
    steps = np.sqrt(_primes(len(grids))) % 1.0
    at = (np.arange(1, count + 1)[:, None] * steps[None, :]) % 1.0
    states = np.array([len(grid.labels) for grid in grids])
    places = np.minimum((at * states).astype(np.int64), states - 1)
    points = np.zeros((count, sum(len(grid.columns) for grid in grids)))
    for order, grid in enumerate(grids):
        points[:, list(grid.columns)] = grid.codes[places[:, order]]
    return points, places


def _integrate(network: DenseNetwork, points: Matrix, baseline: Matrix, nodes: int) -> Matrix:
    places, weights = np.polynomial.legendre.leggauss(nodes)
    away = points - baseline
    mean = np.zeros_like(points)
    for place, weight in zip(places, weights, strict=True):
        mean += weight / 2 * network.gradients(baseline + (place + 1) / 2 * away)
    return np.asarray(away * mean)


def _exact(grid: FieldGrid, pushes: Matrix) -> Driver:
    most, least = int(np.argmax(pushes)), int(np.argmin(pushes))
    effect = float(pushes[most] - pushes[least])
    return Driver(grid.field, effect, grid.labels[most], grid.labels[least])


def _over_grid(grid: FieldGrid, pushes: Matrix, places: NDArray[np.int64]) -> Driver:
    counts = np.bincount(places, minlength=len(grid.labels))
    sums = np.bincount(places, weights=pushes, minlength=len(grid.labels))
    seen = np.flatnonzero(counts)
    means = sums[seen] / counts[seen]
    most, least = int(seen[np.argmax(means)]), int(seen[np.argmin(means)])
    effect = float(np.mean(np.abs(pushes)))
    return Driver(grid.field, effect, grid.labels[most], grid.labels[least])


def _sorted(found: list[Driver]) -> tuple[Driver, ...]:
    return tuple(sorted(found, key=lambda driver: (-driver.effect, driver.field)))


def _shapes(widths: list[int]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for order, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes[f"{2 * order}.weight"] = (outputs, inputs)
        shapes[f"{2 * order}.bias"] = (outputs,)
    return shapes


def _network(weights: Weights, model: ModelSpec) -> DenseNetwork:
    return DenseNetwork(
        tuple(
            (weights[f"{2 * order}.weight"], weights[f"{2 * order}.bias"])
            for order in range(len(model.hidden) + 1)
        )
    )


def _primes(count: int) -> NDArray[np.float64]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found if prime * prime <= candidate):
            found.append(candidate)
        candidate += 1
    return np.array(found, dtype=np.float64)
