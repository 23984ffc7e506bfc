"""A privacy event is data: what a node did, from which any accountant can derive an epsilon."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.record import Part, Positive

NoiseSource = Literal["float64-os", "seeded-simulation"]


class PrivacyEvent(Part):
    """One mechanism applied `steps` times with the same public parameters.

    Adjacency is always adding or removing one customer. `noise_multiplier` is the noise scale
    (standard deviation of the Gaussian, scale of the discrete Laplace) divided by the L2 (Gaussian)
    or L1 (discrete Laplace) sensitivity. Nothing is ever removed from this record or re-meant.
    """

    mechanism: Literal["gaussian", "discrete_laplace"]
    adjacency: Literal["add_remove_one"] = "add_remove_one"
    l1_sensitivity: Positive | None = None
    l2_sensitivity: Positive | None = None
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Positive
    steps: Annotated[int, Field(ge=1, le=10_000_000)]
