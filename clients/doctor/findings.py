"""What the doctor says: a finding is good, a warning or a failure, each with its way out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from clients.clock import Clock
from clients.sent import open_gateway
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.errors import FedError
from fedcore.gateway import About

Outcome = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        outcome: `ok`; `warning`: the node works, but somebody should act; `failure`: it does not.
        sentence: what was found, without customers' values.
        way_out: what to do about it.
        code: the stable reason code of a failure.
        blocks: whether a node with it cannot be started; what may pass by itself does not.
    """

    outcome: Outcome
    sentence: str
    way_out: str = ""
    code: str | None = None
    blocks: bool = False


class Circumstances:
    """What the checks look at. Governance is asked at most once.

    Attributes:
        settings: of the node.
        state: its directory, whether it is there or not.
        clock: of its surroundings.
    """

    def __init__(self, settings: NodeSettings, clock: Clock) -> None:
        self.settings = settings
        self.state = StateDir(settings.state_dir)
        self.clock = clock

    @property
    def has_state(self) -> bool:
        """Whether there is a state directory; where there is none, only that is worth telling."""
        return self.settings.state_dir.is_dir()

    @cached_property
    def about(self) -> About | FedError:
        """What governance says of itself, or why there is no answer."""
        try:
            return open_gateway(self.settings).fetch_about()
        except FedError as error:
            return error


Check = Callable[[Circumstances], Iterable[Finding]]


def ok(sentence: str) -> Finding:
    """Return a good finding."""
    return Finding("ok", sentence)


def warning(sentence: str, way_out: str) -> Finding:
    """Return a finding that somebody should act on."""
    return Finding("warning", sentence, way_out)


def failure(code: str, sentence: str, way_out: str) -> Finding:
    """Return a finding with which the node does not work, and cannot be started."""
    return Finding("failure", sentence, way_out, code, blocks=True)


def passing(code: str, sentence: str, way_out: str) -> Finding:
    """Return a failure that may pass by itself, so that the node may be started with it."""
    return Finding("failure", sentence, way_out, code)


def refused(error: FedError, way_out: str = "") -> Finding:
    """Return the failure that one of our own errors tells of; its sentence holds a way out."""
    return failure(error.code, error.public, way_out)
