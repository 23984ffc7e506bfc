"""The governance service as an ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.routing import APIRoute

from fedcore.signing import SigningKey
from fedcore.version import VERSION
from governance import examples, problems
from governance.console import pages
from governance.limits import RequestLimits
from governance.metrics import Metrics
from governance.observation import Observation
from governance.office import Office
from governance.routes import (
    accounts,
    audits,
    decisions,
    evaluations,
    incidents,
    log,
    nodes,
    operations,
    opt_out_groups,
    opt_outs,
    papers,
    promotions,
    runs,
    sessions,
    stops,
    units,
)
from governance.settings import GovernanceSettings
from registry.database import Database

_ROUTES = (
    accounts,
    sessions,
    papers,
    units,
    runs,
    decisions,
    evaluations,
    audits,
    promotions,
    stops,
    incidents,
    nodes,
    opt_outs,
    opt_out_groups,
    log,
    operations,
)


def create_app(settings: GovernanceSettings, clock: Callable[[], datetime]) -> FastAPI:
    """Return the service on a migrated database; it is closed with the application's lifespan.

    Guarantees: every route answers errors as problem documents; one request is one transaction.
    Raises: InvalidRecordError `key.unreadable` when the signing key cannot be read.
    """
    served = Office(
        settings, Database(settings.database_url), SigningKey.load(settings.signing_key), clock
    )
    app = FastAPI(
        title="fedpact governance",
        summary="Says what may happen, and signs what has happened.",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        lifespan=_closing(served),
        generate_unique_id_function=_operation_id,
        responses={"default": {"model": problems.Problem, "description": "A problem (RFC 9457)"}},
    )
    app.state.office = served
    app.state.metrics = Metrics()
    problems.install(app)
    app.add_middleware(RequestLimits, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(Observation, metrics=app.state.metrics)
    for module in _ROUTES:
        app.include_router(module.router)
    examples.install(app)
    pages.install(app)
    return app


def utc_now() -> datetime:
    """Return the time, for running programs; tests and simulations bring their own clock."""
    return datetime.now(UTC)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _closing(served: Office) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        served.close()

    return lifespan
