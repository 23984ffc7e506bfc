"""The governance API over HTTP; the only file of fedcore that imports httpx."""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia, DpiaView
from fedcore.dpias import ActDetails, DpiaAct
from fedcore.enforcement import (
    GroupOptOutStatus,
    GroupOptOutStatusList,
    OptOutStatus,
    OptOutStatusList,
)
from fedcore.errors import FedError, InvalidRecordError, UnreachableError
from fedcore.gateway import About
from fedcore.gateway_answers import (
    error_in,
    json_of,
    line_error,
    member_of,
    not_governance,
    path_step,
    read_part,
    text_in,
)
from fedcore.gateway_audits import AuditCalls
from fedcore.gateway_evaluations import EvaluationCalls
from fedcore.gateway_models import ModelCalls
from fedcore.incidents import (
    IncidentHistory,
    IncidentList,
    IncidentOpening,
    IncidentUpdate,
    IncidentView,
)
from fedcore.membership import LeaveAnswer, UnitList, UnitStatus
from fedcore.permits import PermitKind
from fedcore.record import Part
from fedcore.sessions import Tokens
from fedcore.signing import Envelope
from fedcore.stops import StopScope
from fedcore.urls import split_url, url_invalid

P = TypeVar("P", bound=Part)
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


def open_client(base_url: str, ca: Path | None = None) -> httpx.Client:
    """Return a client for governance at this address; the caller closes it.

    Args: `ca` is the PEM file of the authority that governance's certificate must come from;
    without it the system's own authorities count.
    Raises: InvalidRecordError `url.invalid`, `tls.ca_unreadable`.
    """
    _verify_url(base_url)
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise InvalidRecordError(
            "tls.ca_unreadable", f"{ca} is no readable file of certificates (PEM)", str(error)
        ) from error
    return httpx.Client(base_url=base_url, verify=context, timeout=TIMEOUT)


def _verify_url(url: str) -> None:
    """Refuse an address before a client fails at it. Raises: InvalidRecordError `url.invalid`."""
    named = "governance's address"
    split_url(url, named)
    try:
        httpx.URL(url).host.encode()
    except (httpx.InvalidURL, UnicodeError) as error:
        raise url_invalid(url, named, "its host or port cannot be read") from error


class HttpGateway(AuditCalls, EvaluationCalls, ModelCalls):
    """The three gateways of `fedcore.gateway` over one HTTP client, which the caller closes.

    Guarantees: an answer is what governance sent, or the FedError with the codes that it answered;
        anything else, such as no answer or one that is not governance's, is an UnreachableError.
        Documents are returned unverified: their readers verify them.

    Args:
        client: with the service's base URL; its time-outs are replaced by `TIMEOUT`.
        api_key: of the caller's account, or the access token of a session; nodes have none.
    """

    def __init__(self, client: httpx.Client, api_key: str | None = None) -> None:
        self._client = client
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

    def fetch_about(self) -> About:
        """Return what governance says of itself, unsigned."""
        return self._part(About, "GET", "/v1/about")

    def fetch_contract(self, digest: str) -> Envelope:
        """Return the signed contract with this digest."""
        return self._envelope("GET", f"/v1/contracts/{path_step(digest)}")

    def sync_bulletin(self, request: Envelope) -> Envelope:
        """Hand over a signed BulletinRequest and return the signed Bulletin."""
        return self._envelope("POST", "/v1/bulletins", _plain(request))

    def submit_opt_out(self, event: Envelope) -> None:
        """Hand over a signed OptOutEvent; repeating the same event changes nothing."""
        self._call("POST", "/v1/opt-outs", _plain(event))

    def submit_opt_outs(self, batch: Envelope) -> None:
        """Hand over a signed OptOutBatch; repeating the same batch changes nothing."""
        self._call("POST", "/v1/opt-out-batches", _plain(batch))

    def fetch_opt_outs(self, request: Envelope) -> bytes:
        """Hand over a signed HistoryRequest and return the part of the history that it asks for."""
        return self._call("POST", "/v1/opt-out-histories", _plain(request)).content

    def submit_group_opt_out(self, event: Envelope) -> None:
        """Hand over a signed GroupOptOut; repeating the same event changes nothing."""
        self._call("POST", "/v1/group-opt-outs", _plain(event))

    def set_aside_group_opt_out(self, statement: Envelope) -> None:
        """Hand over a signed GroupSetAside; repeating the same one changes nothing."""
        self._call("POST", "/v1/group-set-asides", _plain(statement))

    def declare_group(
        self, name: str, units: Sequence[str], normaliser: str, key_check: str
    ) -> Envelope:
        """Make a group of units, or add units to it, and return the signed OptOutGroup."""
        body = {"units": list(units), "normaliser": normaliser, "key_check": key_check}
        return self._envelope("POST", f"/v1/opt-out-groups/{path_step(name)}", body)

    def rotate_key(self, rotation: Envelope) -> Envelope:
        """Hand over a signed KeyRotation and return the new signed UnitCertificate; repeating the
        same rotation changes nothing.
        """
        return self._envelope("POST", "/v1/rotations", _plain(rotation))

    def fetch_ledger_history(self, request: Envelope) -> Envelope:
        """Hand over a signed LedgerRequest and return the signed LedgerHistory."""
        return self._envelope("POST", "/v1/ledger-histories", _plain(request))

    def leave(self, statement: Envelope) -> LeaveAnswer:
        """Hand over a signed Leave, after which governance accepts nothing more of this key;
        repeating the same statement gets the same answer.
        """
        return self._part(LeaveAnswer, "POST", "/v1/leaves", _plain(statement))

    def fetch_handovers(self) -> tuple[Envelope, ...]:
        """Return all signed KeyHandovers of governance, oldest first."""
        value = member_of(json_of(self._call("GET", "/v1/handovers")), "handovers")
        if not isinstance(value, list):
            raise not_governance("no handovers in the answer")
        return tuple(Envelope.from_json(item) for item in value)

    def fetch_plan(self, digest: str) -> Envelope:
        """Return the author-signed plan with this digest."""
        return self._envelope("GET", f"/v1/plans/{path_step(digest)}")

    def list_units(self) -> tuple[UnitStatus, ...]:
        """Return all units that were ever enrolled, by name."""
        return tuple(unit for part in self._parts(UnitList, "/v1/units") for unit in part.units)

    def request_permit(self, plan: str, run_id: str, kind: PermitKind = "train") -> Envelope:
        """Return the signed permit of this run; the same call again returns the same permit.

        Raises: RefusedError with the reason codes of every gate rule that refused.
        """
        body = {"plan": plan, "run_id": run_id, "kind": kind}
        return self._envelope("POST", "/v1/permits", body)

    def renew_permit(self, run_id: str) -> Envelope:
        """Return a signed PermitRenewal of this run, the newest one while it lasts.

        Raises: RefusedError with the reason codes of everything that speaks against it.
        """
        return self._envelope("POST", f"/v1/permits/{path_step(run_id)}/renewal")

    def submit_round(self, report: Envelope, receipts: Sequence[Envelope]) -> None:
        """Hand over a signed RoundReport with its receipts, in one transaction."""
        body = {"report": _plain(report), "receipts": [_plain(receipt) for receipt in receipts]}
        self._call("POST", "/v1/rounds", body)

    def submit_cosignatures(self, cosignatures: Sequence[Envelope]) -> None:
        """Hand over nodes' signed Cosignatures."""
        body = {"cosignatures": [_plain(cosignature) for cosignature in cosignatures]}
        self._call("POST", "/v1/cosignatures", body)

    def fetch_checkpoint(self) -> Envelope:
        """Return the signed Checkpoint of the log as it is now."""
        return self._envelope("GET", "/v1/log/checkpoint")

    def claim(self, code: str, name: str, kept: tuple[str, str]) -> None:
        """Make the first administrator by the one-time code; the same claim again changes nothing.

        Args: `kept` is the id of the API key that the caller has made and the hash of its secret.
        """
        body = {"code": code, "name": name, "key_id": kept[0], "key_hash": kept[1]}
        self._call("POST", "/v1/claims", body)

    def create_account(
        self, name: str, role: str, public_key: str | None = None, unit: str | None = None
    ) -> str:
        """Return the API key of a new account; it is shown once."""
        body = {"name": name, "role": role, "public_key": public_key, "unit": unit}
        return self._text("POST", "/v1/accounts", body, "api_key")

    def sign_in(self, name: str, role: str, password: str) -> Tokens:
        """Return the tokens of a new session."""
        body = {"name": name, "role": role, "password": password}
        return self._part(Tokens, "POST", "/v1/sessions", body)

    def refresh(self, refresh_token: str) -> Tokens:
        """Return a session's next tokens; the refresh token counts once."""
        return self._part(Tokens, "POST", "/v1/sessions/refresh", {"refresh_token": refresh_token})

    def sign_out(self, *, everywhere: bool = False) -> None:
        """End the session whose access token this gateway has, or all of the account."""
        self._call("POST", "/v1/sessions/end", {"everywhere": everywhere})

    def set_password(
        self, password: str, current: str | None = None, *, retire_api_key: bool = False
    ) -> None:
        """Replace the account's password; all of its sessions end, and perhaps its API key."""
        body = {"password": password, "current": current, "retire_api_key": retire_api_key}
        self._call("POST", "/v1/password", body)

    def revoke_account(self, name: str, role: str) -> None:
        """Make the API key of an account worthless."""
        self._call("POST", f"/v1/accounts/{path_step(name)}/{path_step(role)}/revocation")

    def enrol(self, enrolment: Envelope) -> Envelope:
        """Hand over a node-signed Enrolment and return the signed UnitCertificate."""
        return self._envelope("POST", "/v1/enrolments", _plain(enrolment))

    def revoke_node(self, unit: str, reason: str) -> Envelope:
        """Revoke the key of a unit's node and return the signed NodeKeyRevocation."""
        return self._envelope("POST", f"/v1/units/{path_step(unit)}/revocation", {"reason": reason})

    def publish_contract(self, contract: Contract) -> Envelope:
        """Return the contract, signed by governance."""
        return self._envelope("POST", "/v1/contracts", contract.to_json())

    def create_dpia(self, dpia: Dpia) -> str:
        """Store a draft and return its digest."""
        return self._text("POST", "/v1/dpias", dpia.to_json(), "digest")

    def fetch_dpia(self, digest: str) -> DpiaView:
        """Return a DPIA version as it stands now."""
        return self.see_dpia(digest)[0]

    def see_dpia(self, digest: str) -> tuple[DpiaView, str]:
        """Return a DPIA version as it stands now, and the ETag by which an act names this sight."""
        response = self._call("GET", f"/v1/dpias/{path_step(digest)}")
        return read_part(DpiaView, json_of(response)), response.headers.get("ETag", "*")

    def act_on_dpia(
        self,
        digest: str,
        act: DpiaAct,
        note: str,
        details: ActDetails | None = None,
        seen: str | None = None,
    ) -> str:
        """Do one act on a DPIA and return the state it is in now.

        Args: `seen` is the ETag of what the act is done upon; what stands there now by default.
        Raises: ConflictError `request.if_match_failed` when somebody has acted since.
        """
        path = f"/v1/dpias/{path_step(digest)}"
        seen = seen or self.see_dpia(digest)[1]
        body = {} if details is None else details.model_dump(mode="json", exclude_none=True)
        body |= {"act": act, "note": note}
        response = self._call("POST", f"{path}/acts", body, {"If-Match": seen})
        return text_in(json_of(response), "state")

    def register_plan(self, plan: Envelope) -> str:
        """Store an author-signed plan and return its digest."""
        return self._text("POST", "/v1/plans", _plain(plan), "digest")

    def revoke_permit(self, run_id: str, reason: str) -> None:
        """Revoke the permit of a run."""
        self._call("POST", f"/v1/permits/{path_step(run_id)}/revocation", {"reason": reason})

    def stop(self, scope: StopScope, subject: str | None, reason: str) -> Envelope:
        """Stop everything, or all of a unit, purpose, task or DPIA, and return the signed Stop."""
        body = {"scope": scope, "subject": subject, "reason": reason}
        return self._envelope("POST", "/v1/stops", body)

    def lift_stop(self, digest: str, reason: str) -> Envelope:
        """End a stop that another person has made and return the signed StopLift."""
        return self._envelope("POST", f"/v1/stops/{path_step(digest)}/lift", {"reason": reason})

    def open_incident(self, opening: IncidentOpening) -> Envelope:
        """Open an incident and return the signed Incident; what it stops is stopped at once."""
        return self._envelope("POST", "/v1/incidents", opening.model_dump(mode="json"))

    def update_incident(self, number: int, update: IncidentUpdate, seen: str) -> Envelope:
        """Add a phase to an incident whose newest document was `seen`; return the signed phase.

        Raises: ConflictError `request.if_match_failed` when somebody else has updated it since.
        """
        path, body = f"/v1/incidents/{number}/updates", update.model_dump(mode="json")
        return Envelope.from_json(
            json_of(self._call("POST", path, body, {"If-Match": f'"{seen}"'}))
        )

    def list_incidents(self) -> tuple[IncidentView, ...]:
        """Return all incidents as they stand now, oldest first."""
        parts = self._parts(IncidentList, "/v1/incidents")
        return tuple(incident for part in parts for incident in part.incidents)

    def fetch_incident(self, number: int) -> IncidentHistory:
        """Return an incident as it stands now, with all its phases."""
        return self._part(IncidentHistory, "GET", f"/v1/incidents/{number}")

    def list_opt_outs(self, unit: str) -> tuple[OptOutStatus, ...]:
        """Return how far each of a unit's opt-outs has come, and since when it acts."""
        parts = self._parts(OptOutStatusList, f"/v1/opt-outs/{path_step(unit)}")
        return tuple(status for part in parts for status in part.opt_outs)

    def list_group_opt_outs(self, unit: str) -> tuple[GroupOptOutStatus, ...]:
        """Return how far each opt-out has come that a unit was told for its group."""
        parts = self._parts(GroupOptOutStatusList, f"/v1/group-opt-outs/{path_step(unit)}")
        return tuple(status for part in parts for status in part.opt_outs)

    def fetch_opt_out(self, unit: str, sequence: int) -> OptOutStatus:
        """Return how far one of a unit's opt-outs has come, and since when it acts."""
        return self._part(OptOutStatus, "GET", f"/v1/opt-outs/{path_step(unit)}/{sequence}")

    def fetch_artifact(self, digest: str) -> bytes:
        """Return the bytes of a registered model (safetensors)."""
        return self._call("GET", f"/v1/artifacts/{path_step(digest)}").content

    def _envelope(self, method: str, path: str, body: object = None) -> Envelope:
        return Envelope.from_json(json_of(self._call(method, path, body)))

    def _part(self, kind: type[P], method: str, path: str, body: object = None) -> P:
        return read_part(kind, json_of(self._call(method, path, body)))

    def _parts(self, kind: type[P], start: str) -> Iterator[P]:
        """Yield every part of a list."""
        path: str | None = start
        while path is not None:
            response = self._call("GET", path)
            yield read_part(kind, json_of(response))
            path = response.links.get("next", {}).get("url")

    def _text(self, method: str, path: str, body: object, name: str) -> str:
        return text_in(json_of(self._call(method, path, body)), name)

    def _call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = {**self._headers, **(headers or {})}
        try:
            response = self._client.request(method, path, json=body, headers=sent, timeout=TIMEOUT)
        except httpx.HTTPError as error:
            raise line_error(error) from error
        if response.is_success:
            return response
        raise error_of(response)


def error_of(response: httpx.Response) -> FedError:
    """Return the error that governance answered, as `error_in`."""
    try:
        return error_in(json_of(response), response.status_code)
    except UnreachableError as error:
        return error


def _plain(envelope: Envelope) -> dict[str, Any]:
    return envelope.model_dump(mode="json", by_alias=True)
