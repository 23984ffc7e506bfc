"""The client of the plain Flower app: one clipped, noised step on rows that were encoded before."""

import time

IMPORTING_AT = time.time()

import numpy as np  # noqa: E402 - the time of the imports is one of the figures
import torch  # noqa: E402
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from opacus import GradSampleModule  # noqa: E402
from opacus.optimizers import DPOptimizer  # noqa: E402

IMPORTED_AT = time.time()
BATCH_ROWS = 256

torch.set_num_threads(1)
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the update of the local steps, with when each part of the work began."""
    began_at = time.time()
    config = message.content["config"]
    rows = np.load(str(context.node_config["rows"]))
    features, labels = torch.from_numpy(rows["features"]), torch.from_numpy(rows["labels"])
    module = torch.nn.Sequential(torch.nn.Linear(features.shape[1], 1, dtype=torch.float64))
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    model = GradSampleModule(module, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=float(config["learning_rate"])),
        noise_multiplier=float(config["noise_multiplier"]),
        max_grad_norm=float(config["l2_clip_norm"]),
        expected_batch_size=int(context.node_config["public-n"]),
        loss_reduction="sum",
    )
    for _ in range(int(config["local_steps"])):
        step(model, optimizer, features, labels)
    update = {name: value.detach() - before[name] for name, value in module.named_parameters()}
    laps = {
        "importing_at": IMPORTING_AT,
        "imported_at": IMPORTED_AT,
        "began_at": began_at,
        "ended_at": time.time(),
        "num-examples": 1.0,
    }
    content = RecordDict({"arrays": ArrayRecord(update), "metrics": MetricRecord(laps)})
    return Message(content, reply_to=message)


def step(
    model: GradSampleModule, optimizer: DPOptimizer, features: torch.Tensor, labels: torch.Tensor
) -> None:
    """Do one full-batch step in parts of bounded memory."""
    parts = list(zip(features.split(BATCH_ROWS), labels.split(BATCH_ROWS), strict=True))
    for number, (rows, targets) in enumerate(parts):
        optimizer.zero_grad()
        logits = model(rows.requires_grad_()).squeeze(1)
        torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets, reduction="sum"
        ).backward()
        optimizer.signal_skip_step(do_skip=number < len(parts) - 1)
        optimizer.step()
