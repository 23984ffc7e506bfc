"""What people ask of governance about models, over whatever line carries it."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

from fedcore.gateway_answers import Reply, json_of, not_governance, path_step, read_part
from fedcore.model_decisions import DecisionList, DecisionRequest, DecisionView
from fedcore.promotions import (
    Alias,
    AliasHistory,
    ApprovalRequest,
    Holder,
    MoveView,
    PromotionCheck,
    PromotionRequest,
    RollbackRequest,
)
from fedcore.signing import Envelope

_ANYTHING = "*"


class ModelCalls(ABC):
    """The part of the gateways that is about models; a subclass brings the line."""

    @abstractmethod
    def _call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and return its answer, or raise the error that was answered."""

    def register_model(self, run_id: str, name: str, artifact: bytes) -> Envelope:
        """Return the signed ModelVersion of a finished run's released model (safetensors bytes)."""
        content = base64.b64encode(artifact).decode()
        body = {"run_id": run_id, "name": name, "artifact_base64": content}
        return _envelope(self._call("POST", "/v1/models", body))

    def decide_model(
        self, name: str, version: int, decision: DecisionRequest, seen: str
    ) -> Envelope:
        """Decide about a model version whose newest decision was `seen`; return the signed one.

        Raises: ConflictError `request.if_match_failed` when somebody else has decided since.
        """
        path, body = f"{_place(name, version)}/decisions", decision.model_dump(mode="json")
        return _envelope(self._call("POST", path, body, {"If-Match": seen}))

    def see_decisions(self, name: str, version: int) -> tuple[tuple[DecisionView, ...], str]:
        """Return the decisions on a model version, oldest first, and the ETag of this sight."""
        path: str | None = f"{_place(name, version)}/decisions"
        found: list[DecisionView] = []
        while path is not None:
            response = self._call("GET", path)
            found += read_part(DecisionList, json_of(response)).decisions
            path = response.links.get("next", {}).get("url")
        return tuple(found), response.headers.get("ETag", _ANYTHING)

    def fetch_evidence(self, name: str, version: int) -> bytes:
        """Return the evidence bundle of a model version."""
        return self._call("GET", f"{_place(name, version)}/evidence").content

    def fetch_card(self, name: str, version: int, form: Literal["html", "md"]) -> str:
        """Return the card of a model version as HTML or Markdown."""
        reply = self._call("GET", f"{_place(name, version)}/card?format={form}")
        try:
            return reply.content.decode()
        except UnicodeDecodeError as error:
            raise not_governance("no text in the answer") from error

    def check_promotion(self, name: str, version: int, alias: Alias) -> PromotionCheck:
        """Return all rules for an alias with what speaks against a model version now."""
        path = f"{_place(name, version)}/promotion?alias={alias}"
        return read_part(PromotionCheck, json_of(self._call("GET", path)))

    def approve_model(self, name: str, version: int, evidence: str, reason: str) -> Envelope:
        """Approve a model version on the evidence that was seen; return the signed approval.

        Raises: ConflictError `approval.evidence_differs` when there is other evidence by now.
        """
        body = ApprovalRequest(evidence=evidence, reason=reason).model_dump(mode="json")
        return _envelope(self._call("POST", f"{_place(name, version)}/approvals", body))

    def promote_model(
        self, version: tuple[str, int], alias: Alias, reason: str, seen: str
    ) -> Envelope:
        """Give a model version an alias, where aliases are as they were `seen`; return the move.

        Raises: RefusedError with the reason codes of every rule that refused; ConflictError
            `request.if_match_failed` when an alias has moved since.
        """
        body = PromotionRequest(alias=alias, reason=reason).model_dump(mode="json")
        path = f"{_place(*version)}/promotion"
        return _envelope(self._call("POST", path, body, {"If-Match": seen}))

    def roll_back(self, name: str, alias: Alias, reason: str, seen: str) -> Envelope:
        """Give an alias back to who had it before, where aliases are as they were `seen`.

        Raises: ConflictError `request.if_match_failed` when an alias has moved since.
        """
        body = RollbackRequest(alias=alias, reason=reason).model_dump(mode="json")
        path = f"/v1/aliases/{path_step(name)}/rollback"
        return _envelope(self._call("POST", path, body, {"If-Match": seen}))

    def see_aliases(self, name: str) -> tuple[AliasHistory, str]:
        """Return who has a model's aliases, all moves, and the ETag of this sight."""
        path: str | None = f"/v1/aliases/{path_step(name)}"
        holders: tuple[Holder, ...] = ()
        moves: list[MoveView] = []
        while path is not None:
            response = self._call("GET", path)
            part = read_part(AliasHistory, json_of(response))
            holders, moves = part.holders, [*moves, *part.moves]
            path = response.links.get("next", {}).get("url")
        history = AliasHistory(holders=holders, moves=tuple(moves))
        return history, response.headers.get("ETag", _ANYTHING)


def _place(name: str, version: int) -> str:
    return f"/v1/models/{path_step(name)}/{version}"


def _envelope(reply: Reply) -> Envelope:
    return Envelope.from_json(json_of(reply))
