"""The seams inside Flower are where they are expected, and what they guard is refused."""

import dataclasses
import hashlib
import threading
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
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as engine
from flwr.supernode.nodestate import NodeStateFactory

from clients.engine import seams
from clients.engine.files import EngineFiles
from clients.engine.pace import Pace
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


class TestOneMessageAtATime:
    """Flower's loop behind the guard, with its own state: which replies have left, and when."""

    @pytest.fixture
    def guarded(self, monkeypatch, tmp_path):
        for name in ("_verify_fab", "_pull_and_store_message", "_push_messages", "time"):
            monkeypatch.setattr(engine, name, getattr(engine, name))
        for name in ("pull_objects", "pull_and_inflate_object_from_tree"):
            puller = getattr(inflatable_utils, name)
            monkeypatch.setattr(puller, "__kwdefaults__", dict(puller.__kwdefaults__))
        files = EngineFiles(tmp_path / "engine")
        files.prepare()
        seams.guard_supernode(Pace(files))
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 1
        factory = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
        state = factory.state()
        state.set_node_id(11)
        state.store_run(run_of())
        return state, factory.objectstore_factory.store()

    @staticmethod
    def message(number, ttl=60.0):
        made = Message(RecordDict({"a": ConfigRecord({"b": number})}), 11, "train", ttl=ttl)
        made.metadata.__dict__.update(_run_id=5, _message_id=made.object_id)
        return made

    @staticmethod
    def receive(guarded, message, confirm=lambda run_id, digest: None):
        state, store = guarded
        parts = {digest: part.deflate() for digest, part in get_all_nested_objects(message).items()}
        return engine._pull_and_store_message(
            state=state,
            object_store=store,
            node_config={},
            receive=lambda: (remove_content_from_message(message), get_object_tree(message)),
            get_run=lambda run_id: run_of(),
            get_fab=lambda fab_hash, run_id: Fab("", b"", {}),
            pull_object=lambda run_id, digest: parts[digest],
            confirm_message_received=confirm,
            trusted_entities=None,
        )

    @staticmethod
    def answer(guarded, message):
        state, store = guarded
        reply = Message(RecordDict({"done": ConfigRecord({"of": "it"})}), reply_to=message)
        engine._insert_message(reply, state, store)
        state.record_message_processing_start(message.metadata.message_id)
        state.record_message_processing_end(message.metadata.message_id)

    @staticmethod
    def send(guarded):
        state, store = guarded
        sent = []

        def send(message, tree, duration):
            sent.append((message.metadata.reply_to_message_id, duration))
            return set(), "session"

        def push_object(*arguments):
            pytest.fail("the SuperLink asked for no object")

        engine._push_messages(state=state, object_store=store, send=send, push_object=push_object)
        return sent

    def test_how_long_the_node_worked_is_not_told(self, guarded):
        message = self.message(1)
        assert self.receive(guarded, message) == 5
        self.answer(guarded, message)
        assert self.send(guarded) == [(message.metadata.message_id, 0.0)]

    def test_a_reply_that_a_stopped_run_left_behind_is_not_taken_for_the_next_ones(self, guarded):
        """Else the node would be one message behind from then on, and miss every deadline."""
        first, second = self.message(1), self.message(2)

        def stopped(run_id, digest):
            raise RunNotRunningException("stopped by its operator")

        assert self.receive(guarded, first, stopped) is None
        self.answer(guarded, first)  # the executor had the task already
        assert self.receive(guarded, second) == 5
        late = threading.Timer(0.3, self.answer, (guarded, second))
        late.start()
        sent = [message_id for message_id, _ in self.send(guarded)]
        late.join()
        assert sent == [first.metadata.message_id, second.metadata.message_id]

    def test_a_reply_that_never_comes_is_waited_for_while_it_is_wanted_and_no_longer(self, guarded):
        lost, next_one = self.message(1, ttl=0.5), self.message(2)
        assert self.receive(guarded, lost) == 5
        assert self.send(guarded) == []
        assert self.receive(guarded, next_one) == 5
        self.answer(guarded, next_one)
        assert [message_id for message_id, _ in self.send(guarded)] == [
            next_one.metadata.message_id
        ]
