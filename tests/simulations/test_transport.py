"""An application behind the production HTTP client, without a socket."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request

from simulations.transport import AsgiTransport


class Trace:
    def __init__(self):
        self.events = []


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
def application(trace):
    @asynccontextmanager
    async def lifespan(_app):
        trace.events.append("up")
        yield
        trace.events.append("down")

    app = FastAPI(lifespan=lifespan)
    barrier = threading.Barrier(4)

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, str]:
        return {"body": (await request.body()).decode()}

    @app.get("/together")
    def together() -> int:
        return barrier.wait(timeout=10)

    @app.get("/defect")
    def defect() -> None:
        raise ZeroDivisionError

    return app


@pytest.fixture
def client(application):
    with httpx.Client(transport=AsgiTransport(application), base_url="http://app") as opened:
        yield opened


def test_bodies_go_there_and_back(client):
    assert client.post("/echo", content=b"hello").json() == {"body": "hello"}


def test_calls_of_several_threads_are_served_at_the_same_time(client):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.get("/together").json(), range(4)))
    assert sorted(answers) == [0, 1, 2, 3]


def test_a_defect_answers_as_over_the_network(client):
    assert client.get("/defect").status_code == 500
    assert client.post("/echo", content=b"x").status_code == 200


def test_the_lifespan_surrounds_the_calls_and_ends_once(application, trace):
    before = threading.active_count()
    transport = AsgiTransport(application)
    assert trace.events == ["up"]
    transport.close()
    transport.close()
    assert trace.events == ["up", "down"]
    assert threading.active_count() == before


def test_an_application_that_cannot_start_leaves_no_thread():
    @asynccontextmanager
    async def lifespan(_app):
        yield 1 / 0

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        AsgiTransport(FastAPI(lifespan=lifespan))
    assert threading.active_count() == before
