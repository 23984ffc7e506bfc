"""What a node reads of its customers for a plan: opt-outs, consents and retention applied."""

from clients.data import Examples, Inputs, load_examples
from clients.site import Site
from clients.sources import source_of
from fedcore.plans import TrainingPlan


def read_examples(site: Site, plan: TrainingPlan, inputs: Inputs) -> Examples:
    """Return the Examples of a plan's inputs, now.

    Raises: DataError; InvalidRecordError and FedError as `Site.reading`.
    """
    contract = site.contract(plan.contract)
    pseudonymiser, left_out = site.reading(contract, plan.purpose)
    return load_examples(
        source_of(site.settings),
        contract,
        inputs,
        pseudonymiser,
        left_out,
        site.runtime.clock.now().date(),
    )
