"""One private step against the same step of plain PyTorch, and against Opacus' own modes.

All sides run in one process with one thread, in float64 with SGD, and take turns at every
repetition. Times are the process's own processor time, so that others on the machine do not count
but for its caches; figures are medians over repetitions, a ratio is the median of the ratios to
the plain step of the same turn. Ours is `take_step` of a node: padding, clipping, noise from AES;
an mlp's losses are those of the task `churn`. Its sample is a Poisson sample of the stated mean;
plain PyTorch and Opacus get as many rows as the mean. Hooks and functorch take a batch in parts of
at most 256, as `BatchMemoryManager` would: whole ones are slower and do not fit into memory. Memory
is how far a process that was forked for it grows: model, data and three steps.

    make bench NAME=dp_step
    .venv/bin/python benchmarks/dp_step.py --json [--seconds 8] [--batches 64 256 1024 4096]
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from clients.training import batch_rows, poisson_sample, take_step
from fedcore.privacy.engines import Terms, engine_for
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.churn import task as churn

# Python looks here first, where `governance.py` would pass for the package.
HERE = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]

from simulations.report import versions  # noqa: E402

COUNT = 20_000
FIELDS, WORDS, WIDTH = 4, 12, 4
CLIP, NOISE, RATE = 1.0, 1.0, 0.05
OPACUS_ROWS = 256
REPETITIONS = 7
MODES = ("hooks", "ghost", "functorch")
RATIO_AT_MOST = {64: 1.7, 256: 1.7, 1024: 1.5, 4096: 1.3}
HOOKS_AT_LEAST = {64: 3.0, 256: 4.0, 1024: 4.0, 4096: 4.0}
MEMORY_AT_MOST, SAMPLING_AT_MOST = 1.6, 0.10

Step = Callable[[], None]
Losses = Callable[[Tensor, Tensor], Tensor]


class WithCategories(nn.Module):
    """A table whose last columns are codes, each embedded."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Embedding(WORDS, WIDTH) for _ in range(FIELDS))
        self.layers = dense(inputs - FIELDS + FIELDS * WIDTH, *widths, 1)

    def forward(self, rows: Tensor) -> Tensor:
        codes = rows[:, -FIELDS:].long()
        embedded = [words(codes[:, field]) for field, words in enumerate(self.words)]
        found: Tensor = self.layers(torch.cat([rows[:, :-FIELDS], *embedded], dim=1))
        return found


def dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def square_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(dim=1)


MODELS: dict[str, tuple[int, Callable[[int], nn.Module], Losses]] = {
    "mlp_64_64": (40, lambda inputs: dense(inputs, 64, 64, 1), churn.losses),
    "mlp_256_128_64_embeddings": (
        40,
        lambda inputs: WithCategories(inputs, (256, 128, 64)),
        churn.losses,
    ),
    "autoencoder": (64, lambda inputs: dense(inputs, 128, 32, 8, 32, 128, 64), square_losses),
}


class Sides:
    """One model at one batch size, with a step of every side."""

    def __init__(self, model: str, batch: int) -> None:
        inputs, self._build, self._losses = MODELS[model]
        self._inputs, self._batch = inputs, batch
        torch.manual_seed(1)
        features = 2 * torch.rand(COUNT, inputs, dtype=torch.float64) - 1
        features[:, -FIELDS:] = torch.randint(WORDS, (COUNT, FIELDS)).double()
        self._data = features, (torch.rand(COUNT, dtype=torch.float64) < RATE).double()
        if model == "autoencoder":
            self._data = features, features
        self._coins = KeyStream(bytes(32))

    def plain(self) -> Step:
        module = self._module()
        optimizer = torch.optim.SGD(module.parameters(), lr=RATE)

        def step() -> None:
            features, targets = self._rows()
            optimizer.zero_grad()
            self._losses(module(features), targets).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    def ours(self) -> Step:
        engine = engine_for(
            self._module(), Terms(RATE, NOISE, CLIP, self._batch, KeyStream(bytes(32)))
        )
        rows = batch_rows(self._batch, engine.max_rows)
        return lambda: take_step(engine, self._losses, self._data, self.sample(), rows)

    def hooks(self, mode: str = "hooks") -> Step:
        module = self._module()
        wrapped = GradSampleModule(module, force_functorch=mode == "functorch")
        optimizer = self._optimizer(DPOptimizer, module)

        def step() -> None:
            parts = list(
                zip(*(torch.split(rows, OPACUS_ROWS) for rows in self._rows()), strict=True)
            )
            for place, (features, targets) in enumerate(parts):
                optimizer.signal_skip_step(do_skip=place < len(parts) - 1)
                optimizer.zero_grad()
                self._losses(wrapped(features), targets).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()

        return step

    def functorch(self) -> Step:
        return self.hooks("functorch")

    def ghost(self) -> Step:
        module = self._module()
        wrapped = GradSampleModuleFastGradientClipping(
            module, max_grad_norm=CLIP, use_ghost_clipping=True
        )
        optimizer = self._optimizer(DPOptimizerFastGradientClipping, module)
        criterion = DPLossFastGradientClipping(wrapped, optimizer, Criterion(self._losses))

        def step() -> None:
            features, targets = self._rows()
            optimizer.zero_grad()
            criterion(wrapped(features), targets).backward()
            optimizer.step()

        return step

    def sample(self) -> Tensor:
        return poisson_sample(COUNT, self._batch / COUNT, self._coins)

    def _module(self) -> nn.Module:
        return self._build(self._inputs).double()

    def _optimizer(self, kind: Any, module: nn.Module) -> Any:
        return kind(
            torch.optim.SGD(module.parameters(), lr=RATE),
            noise_multiplier=NOISE,
            max_grad_norm=CLIP,
            expected_batch_size=self._batch,
        )

    def _rows(self) -> tuple[Tensor, ...]:
        picked = torch.randint(COUNT, (self._batch,))
        return tuple(values[picked] for values in self._data)


class Criterion:
    """What Opacus' ghost mode takes for a criterion."""

    reduction = "mean"

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._losses(outputs, targets)


def timed(step: Step) -> float:
    start = time.process_time()
    step()
    return 1000 * (time.process_time() - start)


def measure(model: str, batch: int, seconds: float) -> dict[str, float]:
    """Return figures of one model at one batch size; times in milliseconds."""
    sides = Sides(model, batch)
    steps = {name: getattr(sides, name)() for name in ("plain", "ours", *MODES)}
    steps["sampling"] = sides.sample
    for step in [*steps.values()] * 3:
        step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(found["plain"]) < REPETITIONS:
        for name, step in steps.items():
            found[name].append(timed(step))
    figures = {f"{name}_ms": statistics.median(times) for name, times in found.items()}
    ratios = {name: paired(times, found["plain"]) for name, times in found.items()}
    figures |= {f"{name}_ratio": ratios[name] for name in ("ours", *MODES)}
    figures["repetitions"] = len(found["plain"])
    figures["sampling_share"] = paired(found["sampling"], found["ours"])
    figures["memory_ratio"] = growth(model, batch, "ours") / growth(model, batch, "plain")
    return {name: round(figure, 3) for name, figure in figures.items()}


def paired(times: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(times, others, strict=True))


def growth(model: str, batch: int, side: str) -> float:
    """Return by how many MB a process of its own grows at most."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        step = getattr(Sides(model, batch), side)()
        for _ in range(3):
            step()
        os.write(write, str((status("VmHWM") - before) / 1024).encode())
        os._exit(0)
    os.waitpid(child, 0)
    found = float(os.read(read, 100))
    os.close(read)
    os.close(write)
    return found


def status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0])


def missed(batch: int, figures: dict[str, float]) -> list[str]:
    """Return the targets that a model's figures at a batch size miss."""
    fastest = min(figures[f"{mode}_ms"] for mode in MODES)
    met = {
        "ratio": figures["ours_ratio"] <= RATIO_AT_MOST[batch],
        "hooks": figures["hooks_ms"] / figures["ours_ms"] >= HOOKS_AT_LEAST[batch],
        "any_mode": figures["ours_ms"] <= fastest,
        "memory": figures["memory_ratio"] <= MEMORY_AT_MOST,
        "sampling": batch != 256 or figures["sampling_share"] <= SAMPLING_AT_MOST,
    }
    return [name for name, is_met in met.items() if not is_met]


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(RATIO_AT_MOST))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook")
    figures = {
        f"{model}.{batch}": measure(model, batch, options.seconds)
        for model in options.models
        for batch in options.batches
    }
    result = {
        "figures": figures,
        "targets": {
            "ratio_at_most": RATIO_AT_MOST,
            "times_faster_than_hooks_at_least": HOOKS_AT_LEAST,
            "memory_ratio_at_most": MEMORY_AT_MOST,
            "sampling_share_at_most_at_256": SAMPLING_AT_MOST,
        },
        "missed": [
            f"{place}.{name}"
            for place, found in figures.items()
            for name in missed(int(place.split(".")[1]), found)
        ],
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))  # noqa: T201


if __name__ == "__main__":
    main()
