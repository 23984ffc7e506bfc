"""What a plan's algorithm may be made of: optimizers, and rules by which a unit that lies moves
little.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.record import Part


class Momentum(Part):
    """Local steps along a decaying sum of the noised gradients.

    Reference: Polyak (1964).
    """

    kind: Literal["momentum"]
    momentum: Annotated[float, Field(gt=0, lt=1)]


class Adam(Part):
    """Local steps along the noised gradients' mean over the root of their mean square.

    Under noise that root is mostly the noise's own: steps are as long in each coordinate.
    Reference: Kingma & Ba (2015), arXiv 1412.6980; Tang et al. (2024), arXiv 2312.14334.
    """

    kind: Literal["adam"]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    stabiliser: Annotated[float, Field(ge=1e-12, le=1)] = 1e-8


class ServerAdam(Part):
    """The server's steps along the rounds' mean over the root of their mean square, both unbiased.

    The units' noise is in that square too. Reference: Reddi et al. (2021), arXiv 2003.00295; the
    first rounds are brought to scale as by Kingma & Ba (2015), arXiv 1412.6980.
    """

    kind: Literal["adam"]
    learning_rate: Annotated[float, Field(gt=0, le=1e3)]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    stabiliser: Annotated[float, Field(ge=1e-12, le=1)] = 1e-3


class Median(Part):
    """Each coordinate's median over the units, whatever their sizes: fewer than half may lie.

    Reference: Yin et al. (2018), arXiv 1803.01498, algorithm 1, option I.
    """

    kind: Literal["median"]

    @property
    def fewest_units(self) -> int:
        """The fewest units of which one may lie."""
        return 3


class TrimmedMean(Part):
    """Each coordinate's mean over the units without the `trim` largest and the `trim` smallest,
    whatever their sizes: `trim` units may lie.

    Reference: Yin et al. (2018), arXiv 1803.01498, algorithm 1, option II.
    """

    kind: Literal["trimmed_mean"]
    trim: Annotated[int, Field(ge=1, le=499)]

    @property
    def fewest_units(self) -> int:
        """The fewest units of which one is left."""
        return 2 * self.trim + 1


class NormBound(Part):
    """The mean by public sizes of updates that are scaled down to `l2_bound` where they are longer.

    Reference: Sun et al. (2019), arXiv 1911.07963, section 4.
    """

    kind: Literal["norm_bound"]
    l2_bound: Annotated[float, Field(ge=1e-100, le=1e100)]

    @property
    def fewest_units(self) -> int:
        """A single unit is bounded as well."""
        return 1
