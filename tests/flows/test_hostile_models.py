"""Models that a server chose to make one customer visible, under reports that it signed itself."""

import numpy as np
import pytest

from fedcore import canonical, wire
from fedcore.record import Realm
from fedcore.signing import sign_record
from fedcore.weights import decode_weights, encode_weights

SHAPES = {"0.bias": (1,), "0.weight": (1, 5)}


def named(server, data):
    """Return the second round's request for these bytes, which a signed report hands over."""
    digest = canonical.digest(data)
    report = server.report(("north", "south"), model_out=digest)
    order = server.order("north", round=2, previous_report=report.digest, model=digest)
    signed = sign_record(report, server.key, Realm.SIMULATION)
    return server.request(order, previous_report=signed, model=data)


def changed(server, change):
    weights = decode_weights(server.initial, SHAPES, 1e3)
    return encode_weights(change({name: np.array(value) for name, value in weights.items()}))


def kinds(server):
    with server.world.unit("north").node() as node:
        return [entry.kind for entry in node.ledger.entries()]


def to_the_bound(weights):
    weights["0.weight"][0, 0] = 1e3
    return weights


def nan(weights):
    weights["0.bias"][0] = np.nan
    return weights


def infinite(weights):
    weights["0.bias"][0] = np.inf
    return weights


def huge(weights):
    weights["0.weight"][:] = 1e38
    return weights


def over_the_bound(weights):
    weights["0.weight"][0, 0] = np.nextafter(1e3, 2e3)
    return weights


def other_shape(weights):
    return {"0.bias": weights["0.bias"], "0.weight": np.zeros((1, 6))}


def other_names(weights):
    return {"bias": weights["0.bias"], "0.weight": weights["0.weight"]}


def single_precision(weights):
    return {k: v.astype(np.float32) for k, v in weights.items()}


def too_large(weights):
    return {"0.bias": weights["0.bias"], "0.weight": np.zeros((1, 100_000))}


MODELS = {
    nan: "weights.not_finite",
    infinite: "weights.not_finite",
    huge: "weights.out_of_bounds",
    over_the_bound: "weights.out_of_bounds",
    other_shape: "weights.wrong_shape",
    other_names: "weights.wrong_shape",
    single_precision: "weights.wrong_shape",
    too_large: "weights.too_large",
}


@pytest.mark.parametrize("change", MODELS, ids=lambda change: change.__name__)
def test_chosen_weights_are_refused_although_a_signed_report_names_them(server, change):
    assert server.train("north", named(server, changed(server, change))) == MODELS[change]
    assert kinds(server) == ["open"]
    honest = named(server, changed(server, to_the_bound))
    assert isinstance(server.train("north", honest), wire.TrainReply)


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"{}", b"\xff" * 8])
def test_bytes_that_are_no_model_are_refused(server, data):
    assert server.train("north", named(server, data)) == "weights.unreadable"
    assert kinds(server) == ["open"]
    assert isinstance(server.train("north"), wire.TrainReply)
