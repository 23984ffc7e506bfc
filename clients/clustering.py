"""What a node releases of its customers around the centres that it is asked about, and where they
are among them.

Guarantees: what is returned depends on customers only through sums with Gaussian noise, as
    `fedcore.privacy.clustering` says; one customer moves it by at most the plan's `l2_clip_norm`
    before noise. A customer with several rows counts once, at their mean, which is a function of
    those rows alone, as is its place in an embedding.
"""

import numpy as np
from numpy.typing import NDArray

from clients.attributes import groups_of
from clients.data import Examples
from fedcore.privacy.clustering import ReleaseTerms, nearest, release
from fedcore.privacy.noise import Floats, KeyStream
from fedcore.segments.artefact import SegmentModel
from fedcore.segments.embedding import Encoder
from fedcore.segments.groups import SegmentLayout, count_segments
from fedcore.segments.placements import SUMS, placement_of
from fedcore.weights import Weights

Places = NDArray[np.intp]


def release_locally(
    terms: ReleaseTerms,
    placement: Weights,
    examples: Examples,
    noise: KeyStream,
    encoder: Encoder | None = None,
) -> Weights:
    """Return the noised sums of a unit's customers around a placement, as a round's update.

    Args: `terms` are the plan's; `placement` is the round's model after it was held against the
        plan; `encoder` tells customers' places where the plan has them in an embedding.
    """
    rows = customers_of(examples)
    places = rows if encoder is None else encoder.places(rows)
    return {SUMS: release(places, placement_of(placement), terms, noise)}


def places_of(model: SegmentModel, examples: Examples, encoder: Encoder | None) -> Places:
    """Return the number of each customer's nearest centre, shape (customers,); `NOWHERE` of who has
    none. It is whose segment they are, told on the node.
    """
    rows = customers_of(examples)
    told = rows if encoder is None else encoder.places(rows)
    return nearest(told, model.last.placement.centres)


def count_locally(
    layout: SegmentLayout, model: SegmentModel, examples: Examples, encoder: Encoder | None
) -> tuple[int, ...]:
    """Return the table of groups by segments without noise: it must not leave the unit.

    Guarantees: a customer counts in one entry, by rows of their own alone; of several rows the
        mean tells the segment, and the first one the groups.
    Raises: InvalidRecordError `fairness.table_invalid` when the fields of groups were not read.
    """
    groups = [groups_of(examples, attribute) for attribute in layout.attributes]
    return count_segments(layout, groups, places_of(model, examples, encoder))


def customers_of(examples: Examples) -> Floats:
    """Return one row of features for each customer, shape (customers, d): the mean of theirs."""
    if examples.counts is None:
        return examples.features
    ends = np.cumsum(examples.counts)
    total = np.zeros((examples.customers, examples.features.shape[1]))
    # Row after row, and not by numpy's sum, whose order is its own affair.
    for place in range(examples.most):
        has = examples.counts > place
        total[has] += examples.features[(ends - examples.counts)[has] + place]
    return np.asarray(total / examples.counts[:, None])
