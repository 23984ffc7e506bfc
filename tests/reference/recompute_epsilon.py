"""Recompute epsilon from the receipts in an evidence bundle, knowing nothing of fedpact's code.

    python recompute_epsilon.py BUNDLE

Standard library and dp-accounting only. Prints JSON and ends with 0 when each unit's signed claim
and PLD value are the ones found here, with 1 when they are not.

The claim is the least cap under which a Rényi filter of one order lets the events pass, the order
being the one at which (cap - h(a)) / a is greatest, h(a) = log(1 - 1/a) - log(delta a)/(a - 1).
Here the cap is bisected and the order searched for; the product bisects over a grid of orders.
"""

import base64
import json
import math
import sys
import zipfile

from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

RELATION = NeighboringRelation.ADD_OR_REMOVE_ONE
# The product's grid of orders makes its claim at most 0.01 % greater; PLD merges equal steps.
CLAIM_TOLERANCE = 2e-4
PLD_TOLERANCE = 2e-3


def main(path):
    """Return the exit code."""
    permit, model, receipts = read(path)
    delta = permit["delta"]
    found = {}
    for claim in model["epsilon"]:
        events = [r["event"] for r in receipts if r["unit"] == claim["unit"]]
        found[claim["unit"]] = {
            "receipts": len(events),
            "claim": claim_of(events, delta),
            "pld": pld_of(events, delta),
            "signed_claim": claim["claim"],
            "signed_pld": claim["pld"],
        }
    same = set(found) == {r["unit"] for r in receipts} and model["delta"] == delta
    for values in found.values():
        same &= math.isclose(values["claim"], values["signed_claim"], rel_tol=CLAIM_TOLERANCE)
        same &= math.isclose(values["pld"], values["signed_pld"], rel_tol=PLD_TOLERANCE)
        same &= values["signed_pld"] <= values["signed_claim"]
    json.dump({"delta": delta, "units": found, "same": same}, sys.stdout, indent=2)
    return 0 if same else 1


def read(path):
    """Return the permit, the model version and the receipts, each once."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        receipts = {
            base64.b64decode(json.loads(archive.read(name))["payload"])
            for name in names
            if name.startswith("receipts/")
        }
        permit, model = (
            json.loads(base64.b64decode(json.loads(archive.read(name))["payload"]))
            for name in ("permit.json", "model-version.json")
        )
    return permit, model, [json.loads(receipt) for receipt in receipts]


def claim_of(events, delta):
    """Return the least cap that lets the events pass."""
    low, high = 0.0, 1.0
    while not passes(events, high, delta):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(events, middle, delta) else (middle, high)
    return high


def passes(events, cap, delta):
    """Return whether the divergence at the cap's one order converts to at most the cap."""
    order = order_of(cap, delta)
    return divergence(events, order) + conversion(order, delta) <= cap


def order_of(cap, delta):
    """Return the order that admits most full-batch Gaussian noise under the cap."""

    def slack(exponent):
        order = 1 + math.exp(exponent)
        return (cap - conversion(order, delta)) / order

    low, high = math.log(1e-3), math.log(1e4)
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if slack(left) < slack(right) else (low, right)
    return 1 + math.exp((low + high) / 2)


def conversion(order, delta):
    """Return what turns a Rényi divergence of this order into epsilon at delta."""
    return math.log(1 - 1 / order) - math.log(delta * order) / (order - 1)


def divergence(events, order):
    """Return the Rényi divergence of all events together."""
    accountant = RdpAccountant([order], RELATION)
    compose(accountant, events)
    return float(accountant.rdp[0])


def pld_of(events, delta):
    """Return epsilon by privacy loss distributions."""
    accountant = PLDAccountant(RELATION, value_discretization_interval=1e-4)
    compose(accountant, events)
    return float(accountant.get_epsilon(delta))


def compose(accountant, events):
    """Charge each receipt's event."""
    for event in events:
        if event["mechanism"] != "gaussian" or event["adjacency"] != "add_remove_one":
            sys.exit(f"unknown mechanism or adjacency: {event}")
        step = dp_event.GaussianDpEvent(event["noise_multiplier"])
        if event["sampling_rate"] < 1:
            step = dp_event.PoissonSampledDpEvent(event["sampling_rate"], step)
        accountant.compose(dp_event.SelfComposedDpEvent(step, event["steps"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
