"""The DPIA as a record: every field says who asks for it; ids are unique and known."""

from pathlib import Path
from typing import get_args

import pytest

from fedcore.dpia_record import Dpia, dpia_type, parse_dpia
from fedcore.dpia_sections import Asset, LifeCycleStep
from fedcore.dpias import Bindings, DpiaV1
from fedcore.errors import InvalidRecordError
from fedcore.record import Part

# Parts of the bindings: they say what machines hold runs against, whoever asks for it.
BOUND = ("fairness", "ledger_caps", "fairness_audit", "fairness_mitigation")
GOLDEN = Path(__file__).parents[1] / "golden"


def parts_of(annotation):
    """All record parts that a field's type names, at any depth."""
    inner = [part for argument in get_args(annotation) for part in parts_of(argument)]
    own = isinstance(annotation, type) and issubclass(annotation, Part)
    return [annotation, *inner] if own else inner


def sections():
    found = [part for field in Dpia.model_fields.values() for part in parts_of(field.annotation)]
    nested = [
        part
        for kind in found
        for f in kind.model_fields.values()
        for part in parts_of(f.annotation)
    ]
    bound = [Bindings.model_fields[name].annotation for name in BOUND]
    parts = {part for a in bound for part in parts_of(a)}
    parts |= {
        p for part in parts for f in part.model_fields.values() for p in parts_of(f.annotation)
    }
    return {Dpia, *found, *nested} - {Bindings, *parts}


def test_every_field_says_which_article_asks_for_it_or_that_we_do():
    silent = [
        f"{kind.__name__}.{name}"
        for kind in sections()
        for name, field in kind.model_fields.items()
        if name != "schema_name"
        and not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra["asked_by"])
    ]
    assert silent == []
    assert len(sections()) > 20


def test_ids_are_unique_and_known(documents):
    draft = documents.dpia_of(documents.contract_of())
    node = Asset(id="node", kind="software", text="t")
    step = LifeCycleStep(id="s", text="t", assets=("node",))
    values = {**draft.to_json(), "assets": (node,), "life_cycle": (step,)}
    assert Dpia.model_validate(values).assets == (node,)
    for wrong in ({"assets": (node, node)}, {"assets": ()}):
        with pytest.raises(ValueError, match=r"assets: "):
            Dpia.model_validate({**values, **wrong})


def test_a_dpia_is_read_by_its_schema():
    for name, kind in (("dpia-1.json", DpiaV1), ("dpia-2.json", Dpia)):
        data = (GOLDEN / name).read_bytes()
        assert isinstance(parse_dpia(data), kind)
    assert dpia_type("dpia/3") is Dpia
    for data in (b'{"schema":"dpia/3"}', b"[]", b'"dpia/1"'):
        with pytest.raises(InvalidRecordError, match=r"record\.unknown_schema"):
            parse_dpia(data)
