"""What is asked of governance about evaluations, over whatever line; and its list of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fedcore.gateway_answers import path_step
from fedcore.record import At, Digest, Name, Part
from fedcore.signing import Envelope

P = TypeVar("P", bound=Part)


class EvaluationSummary(Part):
    """An evaluation in the list: of which bytes, in which run; `document` is the signed one."""

    run_id: Name
    artifacts: tuple[Digest, ...]
    document: Digest
    evaluated_at: At


class EvaluationList(Part):
    """Evaluations in the order in which they were derived."""

    evaluations: tuple[EvaluationSummary, ...]


class EvaluationCalls(ABC):
    """The calls about evaluations of all gateways, over the line of the class that has them."""

    @abstractmethod
    def _envelope(self, method: str, path: str, body: object = None) -> Envelope:
        """Return the envelope that is answered."""

    @abstractmethod
    def _text(self, method: str, path: str, body: object, name: str) -> str:
        """Return a text of the object that is answered."""

    @abstractmethod
    def _parts(self, kind: type[P], start: str) -> Iterator[P]:
        """Yield every part of a list."""

    def register_evaluation_plan(self, plan: Envelope) -> str:
        """Store an author-signed evaluation plan and return its digest."""
        return self._text("POST", "/v1/evaluation-plans", plain(plan), "digest")

    def fetch_evaluation_plan(self, digest: str) -> Envelope:
        """Return the author-signed evaluation plan with this digest."""
        return self._envelope("GET", f"/v1/evaluation-plans/{path_step(digest)}")

    def submit_tables(self, run_id: str, tables: Sequence[Envelope]) -> Envelope:
        """Hand over the NoisedTables of all answers that the run's accepted report counts, each
        signed by the server, and return the signed Evaluation; the same again gets the same.
        """
        body = {"tables": [plain(envelope) for envelope in tables]}
        return self._envelope("POST", f"/v1/runs/{path_step(run_id)}/tables", body)

    def list_evaluations(self) -> tuple[EvaluationSummary, ...]:
        """Return all evaluations that the caller may see, oldest first."""
        parts = self._parts(EvaluationList, "/v1/evaluations")
        return tuple(summary for part in parts for summary in part.evaluations)

    def fetch_evaluation(self, run_id: str) -> Envelope:
        """Return the signed Evaluation of a run."""
        return self._envelope("GET", f"/v1/evaluations/{path_step(run_id)}")


def plain(envelope: Envelope) -> Mapping[str, Any]:
    """Return an envelope as the JSON object that requests hold."""
    return envelope.model_dump(mode="json", by_alias=True)
