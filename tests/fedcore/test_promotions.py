"""A move of an alias says one thing, and approvals are of evidence."""

from pathlib import Path

import pytest

from fedcore import canonical
from fedcore.errors import InvalidRecordError
from fedcore.promotions import Promotion

GOLDEN = canonical.decode((Path(__file__).parents[1] / "golden" / "promotion-1.json").read_bytes())
NONE = dict.fromkeys(("model", "evidence", "facts", "rules", "to_version"))
WITHOUT_GATE = dict.fromkeys(("evidence", "facts", "rules"))


def move(**changes):
    values = {**GOLDEN, **changes}
    return Promotion.from_json({name: value for name, value in values.items() if value is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"number": 1, "previous": None, "from_version": None},
        {**WITHOUT_GATE, "step": "rolled_back"},
        {**NONE, "step": "rolled_back"},
        {**NONE, "step": "vacated"},
    ],
)
def test_a_move_that_fits_its_step_is_read(changes):
    assert move(**changes).step == {**GOLDEN, **changes}["step"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"number": 1}, "previous"),
        ({"previous": None}, "previous"),
        ({"to_version": 2}, "to_version"),
        ({"model": None}, "model"),
        ({"facts": None}, "facts"),
        ({"step": "rolled_back"}, "evidence, facts, rules"),
        ({**NONE, "from_version": None, "step": "vacated"}, "to_version"),
        ({"to_version": None, "model": None}, "a promotion names it"),
        ({**WITHOUT_GATE, "step": "vacated"}, "nobody has"),
        ({"alias": "winner"}, "alias"),
    ],
)
def test_a_move_that_contradicts_itself_is_refused(changes, names):
    with pytest.raises(InvalidRecordError, match=names):
        move(**changes)
