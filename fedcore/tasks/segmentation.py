"""Segmentation: which kinds of customers are there? Centres that are found, and not trained."""

from dataclasses import dataclass

from fedcore.plans import TaskSpec


@dataclass(frozen=True)
class SegmentationTask:
    """A task without a label, whose model is the placement of a clustering's last release."""

    spec: TaskSpec


task = SegmentationTask(TaskSpec(name="segmentation", label="none", models=("centres",)))
