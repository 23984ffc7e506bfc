"""What the gateways promise, over each way to reach the service."""

import threading
import time
from collections.abc import Callable

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from fedcore.contracts import Contract
from fedcore.errors import NotFoundError, RefusedError, TransitionError
from fedcore.gateway import NodeGateway, OfficeGateway, ServerGateway
from fedcore.models import Checkpoint, ModelVersion
from fedcore.permits import Permit
from fedcore.record import Realm
from fedcore.verify import verify_bundle


def over_loopback(app: FastAPI) -> tuple[httpx.Client, Callable[[], None]]:
    """The application behind uvicorn on a port of this machine."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}")

    def close() -> None:
        client.close()
        server.should_exit = True
        thread.join()

    return client, close


@pytest.fixture(params=["asgi", "http"])
def any_world(request, make_world, ready):
    """The same world behind each way to reach it."""
    return make_world(ready, over_loopback) if request.param == "http" else make_world(ready)


class TestGateway:
    @pytest.mark.databases
    def test_a_whole_run_ends_in_evidence_that_verifies(self, any_world, model_bytes):
        world = any_world
        world.run()
        server: ServerGateway = world.gateway("operator")
        envelope = server.register_model("run-1", "churn", model_bytes)
        assert world.open(envelope, ModelVersion).version == 1
        world.cosign()
        office: OfficeGateway = world.gateway("auditor")
        bundle = office.fetch_evidence("churn", 1)
        assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok

    def test_documents_come_back_signed_by_governance(self, any_world):
        node: NodeGateway = any_world.gateway()
        contract = any_world.open(node.fetch_contract(any_world.plan().contract), Contract)
        assert contract.digest == any_world.plan().contract
        server: ServerGateway = any_world.gateway("operator")
        permit = server.request_permit(any_world.plan().digest, "run-1")
        assert any_world.open(permit, Permit).run_id == "run-1"

    def test_the_server_is_told_a_time_that_governance_has_signed(self, any_world):
        server: ServerGateway = any_world.gateway("operator")
        signed = any_world.open(server.fetch_checkpoint(), Checkpoint)
        assert signed.issued_at == any_world.clock.now

    def test_a_refusal_arrives_with_all_its_codes(self, any_world):
        bad = any_world.plan(task="response", purpose="marketing")
        any_world.register(bad)
        with pytest.raises(RefusedError) as caught:
            any_world.gateway("operator").request_permit(bad.digest, "run-1")
        assert caught.value.codes == ("dpia.task_differs", "dpia.purpose_not_covered")
        with pytest.raises(TransitionError) as transition:
            any_world.gateway("author").act_on_dpia(any_world.dpia().digest, "submit", "n")
        assert transition.value.codes == ("dpia.act_not_allowed",)
        with pytest.raises(NotFoundError):
            any_world.gateway("operator").fetch_plan("sha256:" + "0" * 64)

    def test_opt_outs_go_in_and_come_back(self, any_world):
        event = any_world.sign(any_world.opt_out("north", 1), "north")
        any_world.gateway().submit_opt_out(event)
        assert any_world.bulletin("north").events == (event,)
        assert any_world.bulletin("south").events == ()
