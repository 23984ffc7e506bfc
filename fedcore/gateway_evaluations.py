"""What is asked of governance about evaluations, over whatever line carries it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from fedcore.evaluation_lists import EvaluationList, EvaluationSummary
from fedcore.gateway_answers import Reply, json_of, path_step, read_part, text_in
from fedcore.signing import Envelope


class EvaluationCalls(ABC):
    """The part of the gateways that is about evaluations; a subclass brings the line."""

    @abstractmethod
    def _call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and return its answer, or raise the error that was answered."""

    def register_evaluation_plan(self, plan: Envelope) -> str:
        """Store an author-signed evaluation plan and return its digest."""
        return text_in(json_of(self._call("POST", "/v1/evaluation-plans", _plain(plan))), "digest")

    def fetch_evaluation_plan(self, digest: str) -> Envelope:
        """Return the author-signed evaluation plan with this digest."""
        return _envelope(self._call("GET", f"/v1/evaluation-plans/{path_step(digest)}"))

    def submit_tables(self, run_id: str, tables: Sequence[Envelope]) -> Envelope:
        """Hand over the NoisedTables of all answers that the run's accepted report counts, each
        signed by the server, and return the signed Evaluation; the same again gets the same.
        """
        body = {"tables": [_plain(envelope) for envelope in tables]}
        return _envelope(self._call("POST", f"/v1/runs/{path_step(run_id)}/tables", body))

    def list_evaluations(self) -> tuple[EvaluationSummary, ...]:
        """Return all evaluations that the caller may see, oldest first."""
        path: str | None = "/v1/evaluations"
        found: list[EvaluationSummary] = []
        while path is not None:
            reply = self._call("GET", path)
            found += read_part(EvaluationList, json_of(reply)).evaluations
            path = reply.links.get("next", {}).get("url")
        return tuple(found)

    def fetch_evaluation(self, run_id: str) -> Envelope:
        """Return the signed Evaluation of a run."""
        return _envelope(self._call("GET", f"/v1/evaluations/{path_step(run_id)}"))


def _envelope(reply: Reply) -> Envelope:
    return Envelope.from_json(json_of(reply))


def _plain(envelope: Envelope) -> dict[str, Any]:
    return envelope.model_dump(mode="json", by_alias=True)
