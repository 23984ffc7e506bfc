"""What is asked of governance about fairness audits and waivers, over whatever line carries it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from fedcore.audit_lists import (
    AuditList,
    AuditSummary,
    AuditTables,
    WaiverList,
    WaiverRequest,
    WaiverView,
)
from fedcore.gateway_answers import Reply, json_of, path_step, read_part
from fedcore.signing import Envelope


class AuditCalls(ABC):
    """The part of the gateways that is about fairness audits; a subclass brings the line."""

    @abstractmethod
    def _call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and return its answer, or raise the error that was answered."""

    def list_audits(self) -> tuple[AuditSummary, ...]:
        """Return all fairness audits, oldest first."""
        path: str | None = "/v1/audits"
        found: list[AuditSummary] = []
        while path is not None:
            reply = self._call("GET", path)
            found += read_part(AuditList, json_of(reply)).audits
            path = reply.links.get("next", {}).get("url")
        return tuple(found)

    def fetch_audit(self, run_id: str) -> Envelope:
        """Return the signed FairnessAudit of a run that has evaluated."""
        return Envelope.from_json(json_of(self._call("GET", f"/v1/audits/{path_step(run_id)}")))

    def fetch_audit_tables(self, run_id: str) -> tuple[Envelope, ...]:
        """Return the NoisedTables that the audit of a run was derived from, in its order."""
        reply = self._call("GET", f"/v1/audits/{path_step(run_id)}/tables")
        return read_part(AuditTables, json_of(reply)).tables

    def waive_audit(self, name: str, version: int, request: WaiverRequest) -> Envelope:
        """Answer for a model version that its audit does not pass; return the signed Waiver.

        Raises: RefusedError with the reason codes.
        """
        body = request.model_dump(mode="json")
        return Envelope.from_json(json_of(self._call("POST", _waivers(name, version), body)))

    def list_waivers(self, name: str, version: int) -> tuple[WaiverView, ...]:
        """Return the waivers of a model version, oldest first."""
        reply = self._call("GET", _waivers(name, version))
        return read_part(WaiverList, json_of(reply)).waivers


def _waivers(name: str, version: int) -> str:
    return f"/v1/models/{path_step(name)}/{version}/waivers"
