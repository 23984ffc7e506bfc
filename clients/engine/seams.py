"""What is changed inside Flower's SuperNode, and the proof at start that it is where we expect it.

None of this is Flower's public interface. Each seam is looked at before it is used: a Flower in
which one has moved is refused at start, not discovered under attack.
"""

import hashlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import structlog
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as engine

from clients.engine.bundles import verify_bundle
from clients.engine.expected import Expected, UnwantedError
from clients.engine.pace import Pace, is_wait_for_reply
from fedcore.apps import app_configuration
from fedcore.errors import FedError, RefusedError

FLOWER_MINOR = "1.41"
FIRST_BACKOFF_S = 0.05
_LOOP = "start_client_internal"
_PULL = "_pull_and_store_message"
_PUSH = "_push_messages"
_VERIFY = "_verify_fab"
_PULLERS = ("pull_objects", "pull_and_inflate_object_from_tree")
# Any non-empty value makes Flower take its verifying path.
_TRUSTED = {"fedpact": "the agreed bundle"}
_CHECKED = {"valid_license": "checked by the node"}

log = structlog.get_logger("fedpact.node")


def verify_seams() -> None:
    """Verify that this Flower has every private seam, used as it was when it was read.

    Raises: FedError `engine.unsupported`, naming the seam.
    """
    found = version("flwr")
    if found.split(".")[:2] != FLOWER_MINOR.split("."):
        raise _unsupported(f"flwr {found}, where {FLOWER_MINOR} is needed")
    _verify_function(engine, _LOOP, {"isolation", "trusted_entities", "superexec_auth_secret"})
    _verify_function(engine, _PULL, {"state", "receive", "get_run", "get_fab", "trusted_entities"})
    _verify_function(engine, _PUSH, {"state", "send"})
    _verify_function(engine, _VERIFY, {"fab", "trusted_entities"})
    _verify_uses(_LOOP, {_PULL, _PUSH, "time"})
    _verify_uses(_PULL, {_VERIFY, "pull_objects", "FAB_VERIFICATION_ERROR"})
    _verify_uses(_PUSH, {"time"})
    for name in _PULLERS:
        _verify_function(inflatable_utils, name, {"initial_backoff"})
    for name, expected in (("time", time), ("pull_objects", inflatable_utils.pull_objects)):
        if getattr(engine, name, None) is not expected:
            raise _unsupported(f"{engine.__name__}.{name} is another one")


def guard_supernode(pace: Pace) -> None:
    """Change the SuperNode of this process: bundles are checked, exchanges are quick.

    Guarantees: no run is stored and no task is made for a bundle that is not the agreed one, for a
        run of another type than a ServerApp's, or for one with another configuration; the server
        gets Flower's own code for an invalid bundle. How long the node worked on a message is not
        told beside the answer. The next message is taken when the reply to the last one was sent,
        or is wanted no more, whatever other replies are left over.
    Raises: FedError `engine.unsupported`.
    """
    verify_seams()
    pull, push, expected = getattr(engine, _PULL), getattr(engine, _PUSH), Expected()

    def guarded_pull(**arguments: Any) -> int | None:
        noted = {**arguments, "receive": expected.receiving(arguments["receive"])}
        run_id: int | None = pull(**guarded_arguments(noted))
        if run_id is not None:
            pace.message()
            pace.ring()
        return run_id

    def guarded_push(**arguments: Any) -> None:
        noted = {**arguments, "send": expected.sending(arguments["send"])}
        try:
            while not expected.is_answered:
                push(**noted)
        except UnwantedError:
            log.warning("reply.unwanted")
        pace.message()

    setattr(engine, _VERIFY, _is_agreed)
    setattr(engine, _PULL, guarded_pull)
    setattr(engine, _PUSH, guarded_push)
    setattr(engine, "time", SimpleNamespace(sleep=_paced(pace, expected)))  # noqa: B010 - not exported
    for name in _PULLERS:
        getattr(inflatable_utils, name).__kwdefaults__["initial_backoff"] = FIRST_BACKOFF_S


def _paced(pace: Pace, expected: Expected) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        if is_wait_for_reply(seconds):
            expected.verify_wanted()
        pace.sleep(seconds)

    return sleep


def guarded_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments under which Flower verifies each run that it does not know yet."""
    get_run, get_fab = arguments["get_run"], arguments["get_fab"]
    refused: set[int] = set()

    def checked_run(run_id: int) -> Run:
        run: Run = get_run(run_id)
        if not _is_plain_run(run):
            refused.add(run_id)
        return run

    def marked_fab(fab_hash: str, run_id: int) -> Fab:
        fab: Fab = get_fab(fab_hash, run_id)
        return replace(fab, verifications={} if run_id in refused else dict(_CHECKED))

    return {
        **arguments,
        "get_run": checked_run,
        "get_fab": marked_fab,
        "trusted_entities": dict(_TRUSTED),
    }


def _is_agreed(fab: Fab, trusted_entities: dict[str, str]) -> bool:
    del trusted_entities
    if hashlib.sha256(fab.content).hexdigest() != fab.hash_str:
        log.warning("app.not_agreed", public="the bundle is not the one that the run names")
        return False
    try:
        verify_bundle(fab.content)
    except RefusedError as error:
        log.warning("app.not_agreed", public=error.public, detail=error.detail)
        return False
    return True


def _is_plain_run(run: Run) -> bool:
    configured = run.override_config
    if run.primary_task_type != TaskType.SERVER_APP:
        log.warning("app.not_agreed", public="the run is no ServerApp's")
        return False
    if not all(isinstance(configured.get(key, ""), str) for key in configured) or (
        set(configured) - set(app_configuration())
    ):
        log.warning("app.not_agreed", public="the run's configuration has other settings")
        return False
    return True


def _verify_function(module: ModuleType, name: str, arguments: set[str]) -> None:
    function = getattr(module, name, None)
    if not isinstance(function, FunctionType):
        raise _unsupported(f"{module.__name__}.{name} is missing")
    if not arguments <= set(inspect.signature(function).parameters):
        raise _unsupported(f"{module.__name__}.{name} takes other arguments")
    keywords = function.__kwdefaults__ or {}
    if "initial_backoff" in arguments and "initial_backoff" not in keywords:
        raise _unsupported(f"{module.__name__}.{name} has no default for initial_backoff")


def _verify_uses(name: str, used: set[str]) -> None:
    missing = used - set(getattr(engine, name).__code__.co_names)
    if missing:
        raise _unsupported(f"{name} does not use {', '.join(sorted(missing))}")


def _unsupported(seam: str) -> FedError:
    return FedError(
        "engine.unsupported",
        f"this release of fedpact cannot guard this Flower: {seam}; install flwr {FLOWER_MINOR}.*",
    )
