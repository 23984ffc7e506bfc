"""The seams inside Flower are where they are expected, and what they guard is refused."""

import dataclasses
import hashlib
import time
import types

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as engine
from flwr.supernode.nodestate import NodeStateFactory

from clients.engine import seams
from clients.engine.seams import guarded_arguments, verify_seams
from fedcore.errors import FedError
from fedserver.engine.bundle import build_bundle, bundle_hash


def run_of(**changes):
    return dataclasses.replace(Run.create_empty(5), **changes)


def fetched(run):
    """What Flower would get for this run: its bundle, and who is trusted."""
    fab = Fab("hash", b"content", {"valid_license": "claimed by the server"})
    guarded = guarded_arguments(
        {"get_run": lambda run_id: run, "get_fab": lambda fab_hash, run_id: fab, "state": 1}
    )
    assert guarded["get_run"](run.run_id) is run
    return guarded, guarded["get_fab"]("hash", run.run_id)


def test_this_flower_has_every_seam():
    verify_seams()


def test_another_minor_version_of_flower_is_refused(monkeypatch):
    monkeypatch.setattr(seams, "version", lambda name: "1.42.0")
    with pytest.raises(FedError) as error:
        verify_seams()
    assert error.value.code == "engine.unsupported"
    assert "1.42.0" in error.value.public


@pytest.mark.parametrize(
    "seam",
    ["_verify_fab", "_pull_and_store_message", "_push_messages", "start_client_internal", "time"],
)
def test_a_seam_that_is_missing_is_named(monkeypatch, seam):
    monkeypatch.delattr(engine, seam)
    with pytest.raises(FedError) as error:
        verify_seams()
    assert error.value.code == "engine.unsupported"
    assert seam in error.value.public


def test_a_seam_that_flower_uses_no_more_is_named(monkeypatch):
    def _pull_and_store_message(state, receive, get_run, get_fab, trusted_entities):
        return state, receive, get_run, get_fab, trusted_entities

    monkeypatch.setattr(engine, "_pull_and_store_message", _pull_and_store_message)
    with pytest.raises(FedError, match="_verify_fab"):
        verify_seams()


def test_a_seam_with_other_arguments_is_named(monkeypatch):
    def _verify_fab(app):
        return app

    monkeypatch.setattr(engine, "_verify_fab", _verify_fab)
    with pytest.raises(FedError, match="takes other arguments"):
        verify_seams()


def test_a_default_that_is_missing_is_named(monkeypatch):
    without = types.FunctionType(pull_objects.__code__, pull_objects.__globals__, "pull_objects")
    monkeypatch.setattr(inflatable_utils, "pull_objects", without)
    with pytest.raises(FedError, match="no default for initial_backoff"):
        verify_seams()


def test_a_guard_is_not_put_on_twice(monkeypatch):
    monkeypatch.setattr(engine, "time", types.SimpleNamespace(sleep=time.sleep))
    with pytest.raises(FedError, match=r"start_client_internal\.time"):
        verify_seams()


def test_flower_answers_a_refused_bundle_with_its_own_code_seven():
    error = engine.FAB_VERIFICATION_ERROR
    assert error.code == ErrorCode.INVALID_FAB == 7


def test_flower_is_made_to_verify_every_bundle_and_the_servers_own_word_for_it_is_dropped():
    guarded, fab = fetched(run_of(override_config={"run-id": "r", "plan-digest": "d"}))
    assert guarded["trusted_entities"]
    assert guarded["state"] == 1
    assert fab.verifications == {"valid_license": "checked by the node"}
    assert fab.content == b"content"


@pytest.mark.parametrize("kind", [kind for kind in TaskType if kind != TaskType.SERVER_APP])
def test_a_run_of_another_type_fails_flowers_verification(kind):
    _, fab = fetched(run_of(primary_task_type=kind))
    assert fab.verifications == {}


@pytest.mark.parametrize(
    "configuration", [{"settings": "/etc/passwd"}, {"run-id": 5}, {"plan-digest": 1.5}]
)
def test_a_run_with_another_configuration_fails_flowers_verification(configuration):
    _, fab = fetched(run_of(override_config=configuration))
    assert fab.verifications == {}


def test_a_bundle_that_is_not_the_one_named_or_not_the_agreed_one_is_not_verified():
    assert seams._is_agreed(Fab(bundle_hash(), build_bundle(), {}), {})
    assert not seams._is_agreed(Fab("0" * 64, build_bundle(), {}), {})
    assert not seams._is_agreed(Fab("", b"", {}), {})


def test_how_long_the_node_worked_is_not_told():
    sent = []
    send = seams._without_duration(lambda *arguments: sent.append(arguments))
    send("message", "tree", 12.5)
    assert sent == [("message", "tree", 0.0)]


class TestFlowersOwnLoop:
    """The guarded arguments in Flower's own code, with its own state."""

    @pytest.fixture
    def pulled(self, monkeypatch):
        monkeypatch.setattr(engine, "_verify_fab", seams._is_agreed)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 1
        message = Message(RecordDict({"a": ConfigRecord({"b": 1})}), 11, "train")
        message.metadata.__dict__.update(_run_id=5, _message_id=message.object_id)
        parts = {digest: part.deflate() for digest, part in get_all_nested_objects(message).items()}
        tree = get_object_tree(message)

        def pull(content, **changes):
            factory = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
            state = factory.state()
            state.set_node_id(11)
            fab = Fab(hashlib.sha256(content).hexdigest(), content, {"valid_license": "yes"})
            run = run_of(fab_hash=fab.hash_str, **changes)
            arguments = {
                "state": state,
                "object_store": factory.objectstore_factory.store(),
                "node_config": {},
                "receive": lambda: (remove_content_from_message(message), tree),
                "get_run": lambda run_id: run,
                "get_fab": lambda fab_hash, run_id: fab,
                "pull_object": lambda run_id, digest: parts[digest],
                "confirm_message_received": lambda run_id, digest: None,
                "trusted_entities": None,
            }
            assert engine._pull_and_store_message(**guarded_arguments(arguments)) == 5
            replies = state.get_messages_legacy(is_reply=True)
            return state, [reply.error.code for reply in replies]

        return pull

    def test_the_agreed_bundle_becomes_a_task(self, pulled):
        state, errors = pulled(build_bundle(), override_config={"run-id": "r"})
        assert errors == []
        assert [task.type for task in state.get_tasks()] == [TaskType.CLIENT_APP]
        assert state.get_run(5) is not None

    @pytest.mark.parametrize(
        ("content", "changes"),
        [
            (b"", {}),
            (b"no archive", {}),
            (None, {"primary_task_type": TaskType.AGENT_APP}),
            (None, {"primary_task_type": ""}),
            (None, {"override_config": {"unknown": "key"}}),
        ],
    )
    def test_anything_else_is_answered_with_code_seven_and_leaves_no_trace(
        self, pulled, content, changes
    ):
        state, errors = pulled(build_bundle() if content is None else content, **changes)
        assert errors == [ErrorCode.INVALID_FAB]
        assert list(state.get_tasks()) == []
        assert state.get_run(5) is None
