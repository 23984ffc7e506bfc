"""The course of a clustering run as a plan states it: how segments are searched, and released."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedcore import canonical
from fedcore.errors import MismatchError
from fedcore.privacy.clustering import MAX_CENTRES, ReleaseTerms
from fedcore.record import Digest, Part
from fedcore.segments.artefact import SegmentModel, decode_model
from fedcore.segments.course import CourseTerms
from fedcore.segments.embedding import Encoder, encoder_of
from fedcore.segments.merging import Bounds
from fedcore.weights import decode_weights

# The most numbers that the centres of all segments have: a model has three for each, in 10 MB.
MAX_CELLS = 400_000

Weight = Annotated[float, Field(ge=0.01, le=10)]


class SegmentCount(Part):
    """The least and the most segments that there may be; equal ones declare their number."""

    least: Annotated[int, Field(ge=1, le=MAX_CENTRES)]
    most: Annotated[int, Field(ge=1, le=MAX_CENTRES)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError("segments: the least is above the most")
        return self


class Continuation(Part):
    """The earlier model whose segments keep their ids where they are found again: the digest of its
    bytes, and how far, in the units of public bounds, a segment may have moved.
    """

    artifact: Digest
    farthest: Annotated[float, Field(gt=0, le=1e3)]


class EmbeddingSpec(Part):
    """The autoencoder in whose embedding segments are searched: the digest of its bytes, as its
    model version has it, and of what widths it is, as its plan said.
    """

    artifact: Digest
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(max_length=4)] = ()
    width: Annotated[int, Field(ge=2, le=64)]

    def encoder(self, data: bytes, inputs: int, max_abs: float) -> Encoder:
        """Return what tells customers' places, after everything about the bytes was verified.

        Raises: MismatchError `order.model_mismatch` for bytes of another digest; InvalidRecordError
            as `decode_weights`.
        """
        if canonical.digest(data) != self.artifact:
            raise MismatchError(
                "order.model_mismatch", "the autoencoder is not the one that the plan names"
            )
        widths = [inputs, *self.hidden, self.width, *reversed(self.hidden), inputs]
        shapes: dict[str, tuple[int, ...]] = {}
        for place, (given, gives) in enumerate(pairwise(widths)):
            shapes[f"{2 * place}.weight"], shapes[f"{2 * place}.bias"] = (gives, given), (gives,)
        return encoder_of(decode_weights(data, shapes, max_abs), len(self.hidden))


class CourseSpec(Part):
    """How segments are searched: one release of the whole, so many searches with `spread` centres,
    so many refinements of what they were merged to, and one release that describes it.

    `count_weight` and `square_weight` are what counts and squares are multiplied by in a release.
    Without `continues` the segments get ids that count from 1. With `embedding` centres lie there,
    without it among the features.
    """

    segments: SegmentCount
    spread: Annotated[int, Field(ge=2, le=MAX_CENTRES)]
    searches: Annotated[int, Field(ge=1, le=100)] = 3
    refinements: Annotated[int, Field(ge=1, le=100)] = 2
    count_weight: Weight = 0.4
    square_weight: Weight = 0.4
    continues: Continuation | None = None
    embedding: EmbeddingSpec | None = None

    @model_validator(mode="after")
    def _more_centres_than_segments(self) -> Self:
        if self.spread <= self.segments.most:
            raise ValueError("spread: must be above the most segments, to be merged to them")
        return self

    @property
    def terms(self) -> CourseTerms:
        """The rule from one release to the next."""
        bounds = Bounds(self.segments.least, self.segments.most)
        return CourseTerms(bounds, self.spread, self.searches, self.refinements)

    @property
    def earlier(self) -> tuple[str, ...]:
        """The digests of the models that a run rests on, besides the one that it starts from: the
        autoencoder, and the version that is continued.
        """
        named = (self.embedding, self.continues)
        return tuple(one.artifact for one in named if one is not None)

    def dimensions(self, inputs: int) -> int:
        """Return how many numbers a centre has, where there are so many inputs."""
        return inputs if self.embedding is None else self.embedding.width

    def known_segments(self, data: bytes, inputs: int) -> SegmentModel | None:
        """Return the segments whose ids are kept, after their bytes were held against the plan;
        None without `continues`. (That their inputs mean the same, governance has seen to.)

        Raises: MismatchError `order.model_mismatch` for bytes of another digest,
            `plan.other_segments` for another number of features; InvalidRecordError as
            `decode_model`.
        """
        if self.continues is None:
            return None
        if canonical.digest(data) != self.continues.artifact:
            raise MismatchError("order.model_mismatch", "governance has handed out another model")
        known = decode_model(data)
        if known.last.placement.shape[1] != self.dimensions(inputs):
            raise MismatchError(
                "plan.other_segments",
                "the model whose segments the plan continues has another number of features",
            )
        return known

    @property
    def l2_sensitivity(self) -> float:
        """The most by which one customer moves a release, in L2 norm."""
        return self.release_terms(0.0).l2_sensitivity

    def release_terms(self, noise_multiplier: float) -> ReleaseTerms:
        """Return the public numbers of all releases."""
        return ReleaseTerms(noise_multiplier, self.count_weight, self.square_weight)
