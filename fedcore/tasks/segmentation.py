"""Segmentation: which kinds of customers are there? Centres, which are found and not trained; and,
where the plan wishes it, an autoencoder that is trained before, in whose embedding they are found.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fedcore.errors import MismatchError
from fedcore.plans import ModelSpec
from fedcore.tasks.autoencoder import ReconstructionLosses, build_autoencoder
from fedcore.tasks.task import TaskSpec


@dataclass(frozen=True)
class SegmentationTask:
    """A task without a label.

    Its model is the placement of a clustering's last release, or an autoencoder.
    """

    spec: TaskSpec
    losses: ClassVar[ReconstructionLosses] = ReconstructionLosses()

    def build(self, model: ModelSpec, inputs: int) -> nn.Module:
        """Return the autoencoder: (n, inputs) to (n, inputs).

        Raises: MismatchError `plan.model_unfit` for centres, which are not trained by steps.
        """
        if model.embedding is None:
            raise MismatchError(
                "plan.model_unfit", f"a model of kind {model.kind} is not trained by steps"
            )
        return build_autoencoder(inputs, model.hidden, model.embedding)


task = SegmentationTask(
    TaskSpec(name="segmentation", label="none", models=("centres", "autoencoder"))
)
