"""What is told of a segmentation version: from its artifact, plan and contract alone, never from
rows. Everything is a function of noised sums, so that telling it costs nothing.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedcore.contracts import Contract
from fedcore.encodings import field_of, input_names
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.plans import Feature, TrainingPlan
from fedcore.privacy.clustering import BOUND
from fedcore.segments.artefact import SegmentModel, decode_model
from fedcore.segments.description import Segment, describe
from fedcore.segments.estimates import Estimate
from fedcore.segments.noised import NoisedSums
from fedcore.segments.placing import settled
from fedcore.segments.profiles import FeatureScale, overall, profiles
from fedcore.segments.projection import Projection, project
from fedcore.segments.sizes import drift, shares
from fedcore.segments.variance import explained_variance

# More means than this are not told: nobody reads them, and whoever asks would wait for minutes.
MAX_MEANS = 5_000


@dataclass(frozen=True)
class InputScale:
    """A model's input: what it is called, in which unit it is told, and its values."""

    scale: FeatureScale
    unit: str


@dataclass(frozen=True)
class Cell:
    """The mean of one input in one segment, in the input's own unit, and between which values it
    lies at 95 %; `deviations` is how far from all customers' mean, in their standard deviations.
    """

    value: float
    low: float
    high: float
    deviations: float


@dataclass(frozen=True)
class SegmentFacts:
    """All that is told of a version.

    Attributes:
        cells: of each segment, in the order of `segments`, the inputs'; None where it is not found.
        map: where the segments' centres lie, in the same order.
        explained: how much of the customers' variance segments explain.
        units: how many units have answered the last release, which all of this is told from.
        embedding: the digest of the autoencoder in whose embedding they lie, if in any.
    """

    inputs: tuple[InputScale, ...]
    segments: tuple[Segment, ...]
    cells: tuple[tuple[Cell, ...] | None, ...]
    map: Projection
    explained: Estimate
    units: int
    embedding: str | None = None


@dataclass(frozen=True)
class ShareHistory:
    """The shares of the segments of several versions, oldest first, by stable id, and how those of
    the last one have changed since the one before.
    """

    versions: tuple[int, ...]
    shares: tuple[Mapping[int, Estimate], ...]
    changes: Mapping[int, Estimate]


def tell_segments(artifact: bytes, plan: TrainingPlan, contract: Contract) -> SegmentFacts:
    """Return what is told of the segments that these bytes are.

    Guarantees: a function of its arguments only.
    Raises: InvalidRecordError as `decode_model`, and `segments.too_many_means` above 5,000;
        MismatchError as `read_segments`.
    """
    model = read_segments(artifact, plan, contract)
    means = math.prod(model.last.placement.shape)
    if means > MAX_MEANS:
        raise InvalidRecordError(
            "segments.too_many_means", f"{means} means are more than {MAX_MEANS}, and no card"
        )
    inputs = tuple(_dimensions(plan, contract))
    scales = [one.scale for one in inputs]
    course = plan.model.course
    embedding = course.embedding if course is not None else None
    found = describe(model.last, model.ids, scales)
    order = sorted(range(len(model.ids)), key=lambda place: model.ids[place])
    told = _cells(model.last, inputs)
    return SegmentFacts(
        inputs=inputs,
        segments=tuple(found),
        cells=tuple(told[place] for place in order),
        map=project(settled(model.last)[order], model.last.counts.clip(min=0)[order]),
        explained=explained_variance(model.last),
        units=model.last.units,
        embedding=None if embedding is None else embedding.artifact,
    )


def read_segments(artifact: bytes, plan: TrainingPlan, contract: Contract) -> SegmentModel:
    """Return the model that these bytes are, of this plan.

    Guarantees: how certain its sums are said to be is what the plan says: a server that lies can
        make neither the noise smaller nor units more than may have answered.
    Raises: InvalidRecordError as `decode_model`; MismatchError `segments.other_features` for
        another number of inputs than the plan's, `segments.other_terms`, and as `input_names`.
    """
    model, inputs = decode_model(artifact), len(input_names(plan.features, contract))
    course, found = plan.model.course, model.last.placement.shape[1]
    expected = inputs if course is None else course.dimensions(inputs)
    if found != expected:
        raise MismatchError(
            "segments.other_features", f"the model has {found} inputs, and the plan {expected}"
        )
    if course is not None:
        _verify_terms(model, plan, course.segments.most)
    return model


def tell_shares(models: Sequence[tuple[int, SegmentModel]]) -> ShareHistory:
    """Return the shares of segments over versions, given by number with the oldest first."""
    known = [dict(zip(model.ids, shares(model.last), strict=True)) for _, model in models]
    changes = drift(known[-2], known[-1]) if len(known) > 1 else {}
    return ShareHistory(tuple(number for number, _ in models), tuple(known), changes)


def _verify_terms(model: SegmentModel, plan: TrainingPlan, most: int) -> None:
    if model.last.terms != plan.release_terms:
        rule = "its noise and weights are not those of the plan"
    elif not plan.minimum_units <= model.last.units <= len(plan.units):
        rule = f"{plan.minimum_units} to {len(plan.units)} units may answer, not {model.last.units}"
    elif len(model.ids) > most:
        rule = f"there are at most {most} segments, not {len(model.ids)}"
    else:
        return
    raise MismatchError("segments.other_terms", f"the model is not one of this plan: {rule}")


def _cells(last: NoisedSums, inputs: Sequence[InputScale]) -> list[tuple[Cell, ...] | None]:
    of_all = tuple(zip(inputs, *overall(last), strict=True))
    return [
        None
        if profile is None
        else tuple(_cell(one, *about) for one, about in zip(profile, of_all, strict=True))
        for profile in profiles(last)
    ]


def _cell(mean: Estimate, one: InputScale, middle: float, deviation: float) -> Cell:
    within = mean.interval()
    codes = (mean.value, within.low, within.high)
    value, *ends = (one.scale.own(min(max(code, -BOUND), BOUND)) for code in codes)
    apart = (mean.value - middle) / deviation if deviation > 0 else 0.0
    return Cell(value, min(ends), max(ends), apart)


def _dimensions(plan: TrainingPlan, contract: Contract) -> Iterator[InputScale]:
    """Yield what centres lie among: the inputs, or the numbers of an embedding, without a unit."""
    course = plan.model.course
    if course is None or course.embedding is None:
        yield from _inputs(plan.features, contract)
        return
    for number in range(1, course.embedding.width + 1):
        yield InputScale(FeatureScale(f"embedding {number}", -BOUND, BOUND), "")


def _inputs(features: tuple[Feature, ...], contract: Contract) -> Iterator[InputScale]:
    """Yield the inputs in order; of a plan of centres each feature is one number."""
    times = Counter(feature.field for feature in features)
    for feature in features:
        field = field_of(feature, contract)
        # "log spend" is told as spend, unless both are inputs.
        (name,) = input_names((feature,), contract)
        told = name if times[field.name] > 1 else field.name
        lower, upper = float(field.lower or 0.0), float(field.upper or 0.0)
        scale = FeatureScale(told, lower, upper, is_log=feature.encoding == "log")
        yield InputScale(scale, field.unit or "")
