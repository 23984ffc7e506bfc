"""The server of the plain Flower app: FedAvg as Flower ships it, with a stop-watch."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    """Flower's own strategy; notes when orders are handed over and when the replies are there."""

    def __init__(self, path: Path) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
        self._path = path
        self._sent_at = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._sent_at = time.time()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        found, received_at = list(replies), time.time()
        lap = {
            "round": server_round,
            "sent_at": self._sent_at,
            "received_at": received_at,
            "nodes": [dict(reply.content["metrics"]) for reply in found if reply.has_content()],
        }
        with self._path.open("a", encoding="utf-8") as laps:
            laps.write(json.dumps(lap) + "\n")
        return super().aggregate_train(server_round, found)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do the rounds."""
    config = context.run_config
    module = torch.nn.Sequential(torch.nn.Linear(int(config["inputs"]), 1, dtype=torch.float64))
    train_config = ConfigRecord(
        {
            name: config[name]
            for name in ("learning_rate", "noise_multiplier", "l2_clip_norm", "local_steps")
        }
    )
    TimedFedAvg(Path(str(config["laps"]))).start(
        grid=grid,
        initial_arrays=ArrayRecord(module.state_dict()),
        train_config=train_config,
        num_rounds=int(config["rounds"]),
    )
