"""A privacy event is data: what a node did, from which any accountant can derive an epsilon."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.record import Part

NoiseSource = Literal["float64-os", "seeded-simulation"]


# Outside these bounds floating point, not noise, would decide what is released.
NoiseMultiplier = Annotated[float, Field(ge=0.01, le=1e6)]
Sensitivity = Annotated[float, Field(ge=1e-6, le=1e6)]


class PrivacyEvent(Part):
    """One mechanism applied `steps` times with the same public parameters.

    Adjacency is always adding or removing one customer. `noise_multiplier` is the noise scale
    (standard deviation of the Gaussian, scale of the discrete Laplace) divided by the L2 (Gaussian)
    or L1 (discrete Laplace) sensitivity. Nothing is ever removed from this record or re-meant.
    """

    mechanism: Literal["gaussian", "discrete_laplace"]
    adjacency: Literal["add_remove_one"] = "add_remove_one"
    l1_sensitivity: Sensitivity | None = None
    l2_sensitivity: Sensitivity | None = None
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: NoiseMultiplier
    steps: Annotated[int, Field(ge=1, le=10_000_000)]
