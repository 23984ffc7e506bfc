"""The one place where a program takes its surroundings from: clock, randomness, network."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from fedcore.errors import MismatchError
from fedcore.record import Realm

T = TypeVar("T")


class Seam(Generic[T]):
    """A program's surroundings: the production ones, unless a simulation binds its own.

    Guarantees: no setting changes them; a program in realm production gets the production ones or
        nothing.
    """

    def __init__(self, program: str, production: T) -> None:
        self._program = program
        self._production = production
        self._bound: ContextVar[T] = ContextVar(f"fedpact_{program}", default=production)

    def current(self, realm: Realm) -> T:
        """Return the surroundings in force.

        Raises: MismatchError `realm.simulation_bound` for a production program in a simulation.
        """
        surroundings = self._bound.get()
        if realm is Realm.PRODUCTION and surroundings is not self._production:
            raise MismatchError(
                "realm.simulation_bound",
                f"a production {self._program} cannot run in a simulation",
            )
        return surroundings

    @contextmanager
    def bound(self, surroundings: T) -> Iterator[None]:
        """Use these surroundings inside the block. For `simulations` only."""
        token = self._bound.set(surroundings)
        try:
            yield
        finally:
            self._bound.reset(token)
