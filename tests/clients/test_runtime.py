import pytest

from clients import runtime
from fedcore.errors import MismatchError
from fedcore.privacy.noise import SystemNoise
from fedcore.record import Realm
from simulations.noise import SeededNoise


def unreachable(settings):
    raise NotImplementedError


@pytest.fixture
def simulated(clock):
    return runtime.Runtime(clock=clock, noise=SeededNoise(1), gateway=unreachable)


def test_production_takes_its_noise_from_the_operating_system():
    assert runtime.SEAM.current(Realm.PRODUCTION) is runtime.PRODUCTION
    assert isinstance(runtime.PRODUCTION.noise, SystemNoise)


def test_a_production_node_refuses_a_simulations_surroundings(simulated):
    with runtime.SEAM.bound(simulated):
        with pytest.raises(MismatchError) as error:
            runtime.SEAM.current(Realm.PRODUCTION)
        assert error.value.code == "realm.simulation_bound"
        assert runtime.SEAM.current(Realm.SIMULATION) is simulated
    assert runtime.SEAM.current(Realm.PRODUCTION) is runtime.PRODUCTION


def test_what_was_bound_ends_with_its_block_also_after_an_error(simulated):
    with pytest.raises(KeyError), runtime.SEAM.bound(simulated):
        raise KeyError
    assert runtime.SEAM.current(Realm.SIMULATION) is runtime.PRODUCTION
