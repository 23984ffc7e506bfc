import ast
import functools
import importlib
import sys
from pathlib import Path

import pytest
import structlog
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.exceptions import PanicException
from structlog.testing import capture_logs

from clients.guard import PUBLIC_CODES, UNAVAILABLE, GuardedClientApp
from fedcore import errors, wire
from fedcore.errors import BudgetError, DataError, FedError, RefusedError, TrustError

SECRET = "Miss-Marple-7"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Flower wants to know on whose behalf a message is made."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def ask(act, record=lambda *_: None):
    """Return the message that leaves when `act` is what the node does."""
    app = GuardedClientApp(record)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        act()
        return Message(RecordDict({"done": ConfigRecord({"done": 1})}), reply_to=message)

    context = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})
    message = Message(RecordDict(), 2, wire.TRAIN, ttl=60.0)
    message.metadata.__dict__["_message_id"] = "1"
    return app(message, context)


def raising(error):
    def act():
        rows = [SECRET]  # a variable beside the error, as rows and keys are
        assert rows
        raise error

    return act


def test_every_answer_is_listed_before_it_leaves_a_refusal_as_well():
    listed = []
    for act in (lambda: None, raising(TrustError("log.forked", "x")), raising(ValueError(SECRET))):
        reply = ask(act, lambda request, reply, context: listed.append(reply))
        assert listed.pop() is reply
    assert listed == []


@pytest.mark.parametrize(
    "error", [FedError("log.forked", "x"), ValueError(SECRET), PanicException(SECRET)]
)
@pytest.mark.parametrize("act", [lambda: None, raising(TrustError("log.forked", "x"))])
def test_an_answer_that_cannot_be_listed_is_held_back_for_one_constant(act, error):
    reply = ask(act, lambda *_: raising(error)())
    assert (reply.error.code, reply.error.reason) == (1, UNAVAILABLE)
    assert SECRET.encode() not in message_to_proto(reply).SerializeToString()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_process_that_ends_while_it_lists_sends_nothing(kind):
    with pytest.raises(kind):
        ask(lambda: None, lambda *_: raising(kind())())


def classes_of(kind):
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in classes_of(below))]


def instance_of(kind, text):
    """Return an exception of a class, holding the text, by whatever its constructor takes."""
    for arguments in ((text,), (), (text, text), ("utf-8", text.encode(), 0, 1, text)):
        try:
            return kind(*arguments)
        except Exception:  # noqa: BLE001, S112 - constructors want all kinds of things
            continue
    return None


LIBRARIES = {
    "builtins",
    "cryptography",
    "flwr",
    "httpx",
    "json",
    "numpy",
    "opacus",
    "polars",
    "pydantic",
    "pydantic_core",
    "pyo3_runtime",
    "safetensors",
    "sqlite3",
    "torch",
}
PROCESS_ENDS = (KeyboardInterrupt, SystemExit)


def others():
    """Return one of every exception of Python and of the node's libraries, holding the secret."""
    ours = (*PROCESS_ENDS, FedError, Warning)
    kinds = {kind for kind in classes_of(BaseException) if not issubclass(kind, ours)}
    made = [
        instance_of(kind, SECRET) for kind in kinds if kind.__module__.split(".")[0] in LIBRARIES
    ]
    return [error for error in made if error is not None]


def test_an_answer_passes_unchanged():
    reply = ask(lambda: None)
    assert not reply.has_error()
    assert dict(reply.content["done"]) == {"done": 1}


def test_of_any_exception_one_bare_code_leaves_and_nothing_is_logged_of_it(capfd):
    errors_of_libraries = others()
    assert len(errors_of_libraries) > 50
    for error in errors_of_libraries:
        with capture_logs() as logs:
            reply = ask(raising(error))
        assert (reply.error.code, reply.error.reason) == (1, UNAVAILABLE), type(error)
        assert wire.read_refusal(reply).code == UNAVAILABLE
        assert SECRET.encode() not in message_to_proto(reply).SerializeToString(), type(error)
        assert SECRET not in repr(logs), type(error)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_panic_below_python_is_answered_as_well():
    assert issubclass(PanicException, BaseException)
    assert not issubclass(PanicException, Exception)
    assert wire.read_refusal(ask(raising(PanicException(SECRET)))).code == UNAVAILABLE


@pytest.mark.parametrize("kind", PROCESS_ENDS)
def test_what_ends_the_process_is_not_held_up(kind):
    with pytest.raises(kind):
        ask(raising(kind()))


def test_an_error_during_an_import_does_not_leave(tmp_path, monkeypatch):
    (tmp_path / "broken_by_an_operator.py").write_text(f"raise RuntimeError('{SECRET}')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("broken_by_an_operator", "missing_altogether"):
        reply = ask(functools.partial(importlib.import_module, name))
        assert (reply.error.code, reply.error.reason) == (1, UNAVAILABLE)
    assert "broken_by_an_operator" not in sys.modules


def test_the_log_names_where_it_happened_and_not_the_variables_there(capfd):
    """With the log's own defaults, which print the variables of every frame when asked to."""
    structlog.reset_defaults()
    ask(raising(ValueError(SECRET)))
    said = "".join(capfd.readouterr())
    assert "ValueError" in said
    assert "test_guard.py" in said
    assert SECRET not in said


@hypothesis_settings(max_examples=60)
@given(
    st.sampled_from([FedError, TrustError, DataError, errors.ExpiredError, errors.ConflictError]),
    st.one_of(
        st.sampled_from(sorted(PUBLIC_CODES)),
        st.from_regex(r"[a-z]{1,8}\.[a-z_]{1,12}", fullmatch=True),
        st.text(max_size=20),
    ),
)
def test_only_public_codes_leave_and_every_other_is_node_unavailable(kind, code):
    reply = ask(raising(kind(code, f"a sentence about {SECRET}", f"detail {SECRET}")))
    expected = code if code in PUBLIC_CODES else UNAVAILABLE
    assert (reply.error.code, reply.error.reason) == (1, expected)
    assert SECRET.encode() not in message_to_proto(reply).SerializeToString()


@pytest.mark.parametrize("kind", [RefusedError, BudgetError])
def test_of_several_reasons_the_first_leaves_when_it_is_public(kind):
    public, private = ("budget.exceeded", "x"), ("node.unchecked", "x")
    assert ask(raising(kind([public, private]))).error.reason == "budget.exceeded"
    assert ask(raising(kind([private, public]))).error.reason == UNAVAILABLE


def test_nothing_about_rows_files_or_keys_is_public():
    subjects = {code.split(".")[0] for code in PUBLIC_CODES}
    documents = {"bulletin", "contract", "order", "permit", "plan", "policy", "weights", "wire"}
    models = {"clustering", "evaluation", "segments"}
    assert subjects == {*documents, *models, "budget", "log", "run", "signature"}
    assert not {"bulletin.corrupt", "ledger.corrupt", UNAVAILABLE} & PUBLIC_CODES


def test_every_public_code_is_raised_somewhere():
    files = [path for package in ("clients", "fedcore") for path in (ROOT / package).rglob("*.py")]
    texts = {
        node.value
        for path in files
        if path.name != "guard.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert PUBLIC_CODES - texts == set()
