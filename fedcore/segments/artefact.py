"""The model of a segmentation version as bytes: safetensors, sorted names, no metadata.

It holds the last placement of a run, the units' joint noised sums around it, the public numbers
that say how far off these are, and the stable ids: all that is told of segments is derived from it,
from the plan and from the contract. Nothing in it knows a row, a true count or a unit.

    centres           float64 (k, d)  where the last release looked, within the public bounds
    radius            float64 (1,)    in how far rows were told in full
    offset_sums       float64 (k, d)  noised sums of differences from the centre, in radii
    weighted_counts   float64 (k,)    noised numbers of customers, times `count_weight`
    weighted_squares  float64 (k, d)  noised sums of the differences' squares, times `square_weight`
    noise_multiplier  float64 (1,)    of each unit's noise
    count_weight      float64 (1,)
    square_weight     float64 (1,)
    units             int64   (1,)    how many units' noise is in the sums
    ids               int64   (k,)    the stable id of each centre
    newest_id         int64   (1,)    the greatest id ever given in this line of versions
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import MAX_CENTRES, Placement, ReleaseTerms
from fedcore.segments.noised import NoisedSums

MAX_BYTES = 10 * 1024 * 1024
MAX_UNITS = 2**20
# Ids stay whole numbers in every reader, and no arithmetic on sums overflows.
MAX_ID = 2**53 - 1
MAX_SUM = 1e15

# The sides of each tensor: k and d are those of `centres`.
_SIDES = {
    "centres": "kd",
    "count_weight": "1",
    "ids": "k",
    "newest_id": "1",
    "noise_multiplier": "1",
    "offset_sums": "kd",
    "radius": "1",
    "square_weight": "1",
    "units": "1",
    "weighted_counts": "k",
    "weighted_squares": "kd",
}
_WHOLE = ("ids", "newest_id", "units")
_SUMS = ("offset_sums", "weighted_counts", "weighted_squares")

_Array = NDArray[Any]


@dataclass(frozen=True)
class SegmentModel:
    """What a segmentation version is: the last release's noised sums, and which id is whose.

    Args: `ids` in the order of the centres; `newest` the greatest id ever given in this line.
    Raises: InvalidRecordError `segments.model_invalid`, which names the tensor, unless ids are
        different ones from 1, one for each centre and none above `newest`, every sum is finite and
        within 1e15, and 1 to 2**20 units are behind them.
    """

    last: NoisedSums
    ids: tuple[int, ...]
    newest: int

    def __post_init__(self) -> None:
        count, features = self.last.placement.shape
        if self.last.blocks.shape != (count, 2 * features + 1):
            raise _invalid("offset_sums", "the sums are not those of the centres")
        if not bool((np.abs(self.last.blocks) <= MAX_SUM).all()):
            raise _invalid("offset_sums", f"a sum is not finite or beyond {MAX_SUM:g}")
        if not 1 <= self.last.units <= MAX_UNITS:
            raise _invalid("units", f"must lie between 1 and {MAX_UNITS}")
        if len(self.ids) != count or len(set(self.ids)) != count or min(self.ids) < 1:
            raise _invalid("ids", "must be different ones from 1, one for each centre")
        if not max(self.ids) <= self.newest <= MAX_ID:
            raise _invalid("newest_id", "must not be below an id of this version, nor above 2**53")


def encode_model(model: SegmentModel) -> bytes:
    """Return the one encoding of a model; its sha256 is the version's artifact digest.

    Raises: InvalidRecordError `segments.model_too_large` above 10 MB.
    """
    placement, terms, features = (
        model.last.placement,
        model.last.terms,
        model.last.placement.shape[1],
    )
    blocks = model.last.blocks
    data = _encode(
        {
            "centres": placement.centres,
            "count_weight": np.array([terms.count_weight]),
            "ids": np.array(model.ids, dtype=np.int64),
            "newest_id": np.array([model.newest], dtype=np.int64),
            "noise_multiplier": np.array([terms.noise_multiplier], dtype=np.float64),
            "offset_sums": blocks[:, :features],
            "radius": np.array([placement.radius], dtype=np.float64),
            "square_weight": np.array([terms.square_weight]),
            "units": np.array([model.last.units], dtype=np.int64),
            "weighted_counts": blocks[:, features],
            "weighted_squares": blocks[:, features + 1 :],
        }
    )
    _verify_length(data)
    return data


def decode_model(data: bytes) -> SegmentModel:
    """Return the model that these bytes are, after everything about it was verified.

    Guarantees: exactly the tensors above, each of its type and shape, finite and within its range;
        `encode_model` gives the same bytes again.
    Raises: InvalidRecordError `segments.model_too_large`, `segments.model_unreadable`, and
        `segments.model_invalid`, which names the tensor.
    """
    _verify_length(data)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidRecordError(
            "segments.model_unreadable", "the model is not in safetensors format", str(error)
        ) from error
    _verify_names(tensors)
    _verify_tensors(tensors)
    model = _made(tensors)
    if encode_model(model) != data:
        raise InvalidRecordError(
            "segments.model_unreadable", "the model is not in its one encoding"
        )
    return model


def _made(tensors: Mapping[str, _Array]) -> SegmentModel:
    try:
        placement = Placement(tensors["centres"], float(tensors["radius"][0]))
    except InvalidRecordError as error:
        raise _invalid("centres or radius", error.public) from error
    weights = (float(tensors[name][0]) for name in ("count_weight", "square_weight"))
    try:
        terms = ReleaseTerms(float(tensors["noise_multiplier"][0]), *weights)
    except InvalidRecordError as error:
        raise _invalid("noise_multiplier, count_weight or square_weight", error.public) from error
    counts = tensors["weighted_counts"][:, None]
    blocks = np.concatenate([tensors["offset_sums"], counts, tensors["weighted_squares"]], axis=1)
    last = NoisedSums(placement, terms, int(tensors["units"][0]), blocks)
    ids = tuple(int(one) for one in tensors["ids"])
    return SegmentModel(last, ids, int(tensors["newest_id"][0]))


def _verify_names(names: Iterable[str]) -> None:
    found = set(names)
    for name in sorted(found - _SIDES.keys()):
        # The name is a stranger's text: in ASCII, and cut.
        raise _invalid(ascii(name)[:60], "no model of segments has such a tensor")
    for name in sorted(_SIDES.keys() - found):
        raise _invalid(name, "is missing")


def _verify_tensors(tensors: Mapping[str, _Array]) -> None:
    centres = tensors["centres"]
    if centres.ndim != 2 or not 1 <= len(centres) <= MAX_CENTRES or centres.shape[1] < 1:
        raise _invalid("centres", f"must be a table of 1 to {MAX_CENTRES} rows")
    lengths = {"1": 1, "k": centres.shape[0], "d": centres.shape[1]}
    for name, sides in _SIDES.items():
        tensor, kind = tensors[name], np.int64 if name in _WHOLE else np.float64
        if tensor.dtype != kind:
            raise _invalid(name, f"must be of type {np.dtype(kind).name}")
        if tensor.shape != tuple(lengths[side] for side in sides):
            raise _invalid(name, "is not of the shape that the centres ask for")
        if not bool(np.isfinite(tensor).all()):
            raise _invalid(name, "has a number that is not finite")
        if name in _SUMS and bool((np.abs(tensor) > MAX_SUM).any()):
            raise _invalid(name, f"has a sum beyond {MAX_SUM:g}")


def _encode(tensors: Mapping[str, _Array]) -> bytes:
    return bytes(save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}))


def _verify_length(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise InvalidRecordError(
            "segments.model_too_large", f"a model of segments has at most {MAX_BYTES} bytes"
        )


def _invalid(tensor: str, rule: str) -> InvalidRecordError:
    return InvalidRecordError("segments.model_invalid", f"tensor {tensor}: {rule}")
