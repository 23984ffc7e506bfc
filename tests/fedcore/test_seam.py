import pytest

from fedcore.errors import MismatchError
from fedcore.record import Realm
from fedcore.seam import Seam


def test_production_gets_the_production_surroundings_or_nothing():
    seam = Seam("node", "real")
    assert seam.current(Realm.PRODUCTION) == "real"
    with seam.bound("seeded"), pytest.raises(MismatchError, match=r"realm\.simulation_bound"):
        seam.current(Realm.PRODUCTION)
    with seam.bound("seeded"):
        assert seam.current(Realm.SIMULATION) == "seeded"
    assert seam.current(Realm.PRODUCTION) == "real"
