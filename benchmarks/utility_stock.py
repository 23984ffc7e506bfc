"""What a stock loop does: Flower's FedAvg, and on each unit Opacus' `make_private` with hooks.

It is generous to that loop: it has the plan's inputs, the whole run's epsilon (by Opacus' own
accountant, where tutorials print one round's), and a learning rate chosen on seeds 101 and 102 of
each set out of up to six from 0.03 to 10. Weights are shares of exact numbers of customers, which
it gives away. Ten rounds of one epoch, Poisson batches of about 256, clip 1.
"""

import warnings
from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from clients.data import Examples

ROUNDS, BATCH, CLIP = 10, 256, 1.0
LEARNING_RATES = {
    "telco": 3.0,
    "telco-all": 3.0,
    "bankchurners": 10.0,
    "bank_marketing": 10.0,
    "bank_marketing-no-year": 10.0,
    "cdnow": 3.0,
}


def stock_auc(
    train: Mapping[str, Examples],
    test: Mapping[str, Examples],
    privacy: tuple[float, float],
    learning_rate: float,
    seed: int,
) -> float:
    """Return the test AUC of the loop's model. Args: `privacy` is epsilon and delta."""
    torch.manual_seed(seed)
    units = {unit: _Client(part, privacy, learning_rate) for unit, part in train.items()}
    inputs = next(iter(train.values())).features.shape[1]
    state = torch.nn.Linear(inputs, 1).state_dict()
    for _ in range(ROUNDS):
        replies = [client.reply(state) for client in units.values()]
        state = aggregate_arrayrecords(replies, "num-examples").to_torch_state_dict()
    features, labels = (
        np.concatenate([getattr(part, side) for part in test.values()])
        for side in ("features", "labels")
    )
    scores = features @ state["weight"].numpy()[0]
    return float(roc_auc_score(labels, scores))


class _Client:
    """A unit with its loader; the engine is made anew in each round, as a ClientApp does."""

    def __init__(self, part: Examples, privacy: tuple[float, float], learning_rate: float) -> None:
        tensors = (torch.from_numpy(side).float() for side in (part.features, part.labels))
        data = TensorDataset(*tensors)
        self._loader = DataLoader(data, batch_size=min(BATCH, len(data)))
        self._rate, self._count = learning_rate, len(data)
        self._noise = _noise(*privacy, len(self._loader))

    def reply(self, state: Mapping[str, torch.Tensor]) -> RecordDict:
        """Train one epoch from the round's model."""
        model = torch.nn.Linear(state["weight"].shape[1], 1)
        model.load_state_dict(state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            private, optimizer, loader = PrivacyEngine().make_private(
                module=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=self._rate),
                data_loader=self._loader,
                noise_multiplier=self._noise,
                max_grad_norm=CLIP,
            )
            loss = torch.nn.BCEWithLogitsLoss()
            for features, labels in loader:
                optimizer.zero_grad()
                loss(private(features).squeeze(1), labels).backward()
                optimizer.step()
        arrays = ArrayRecord(model.state_dict())
        return RecordDict(
            {"arrays": arrays, "metrics": MetricRecord({"num-examples": self._count})}
        )


@cache
def _noise(epsilon: float, delta: float, batches: int) -> float:
    """Return the noise multiplier of a whole run, by Opacus' own accountant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=1 / batches,
            steps=ROUNDS * batches,
            accountant="rdp",
        )
