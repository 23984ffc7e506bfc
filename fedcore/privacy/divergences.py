"""Rényi divergences of Gaussian steps, by the library."""

from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import DpEvent, GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant

from fedcore.privacy.steps import Step

_RELATION = NeighboringRelation.ADD_OR_REMOVE_ONE


def gaussian_divergence(step: Step, order: float) -> float:
    """Return the divergence of one Gaussian step at an order, for adding or removing a customer.

    Guarantees: an upper bound; with a sampling rate below 1 at a fractional order it may be far
        above the truth, where the library's series does not converge.
    Reference: Mironov, Talwar and Zhang (2019), arXiv 1908.10530.
    """
    accountant = RdpAccountant([order], _RELATION)
    accountant.compose(_dp_event(step))
    return float(accountant.rdp[0])


def _dp_event(step: Step) -> DpEvent:
    event = GaussianDpEvent(step.noise_multiplier)
    return event if step.sampling_rate == 1 else PoissonSampledDpEvent(step.sampling_rate, event)
