"""Routes of groups of units that act on each other's opt-outs."""

from fastapi import APIRouter
from starlette.status import HTTP_204_NO_CONTENT

from fedcore.record import Name
from fedcore.signing import Envelope
from governance import opt_out_groups
from governance.bodies import GroupRequest
from governance.routes.callers import NODE, Compliance, Desks

router = APIRouter(prefix="/v1")


@router.post("/opt-out-groups/{name}", summary="Make a group of units, or add to it")
def declare_group(name: Name, body: GroupRequest, office: Desks, caller: Compliance) -> Envelope:
    """Return the signed group; a group only grows, and again it changes nothing."""
    with office.writing() as desk:
        return opt_out_groups.declare(desk, name, body, caller)


@router.post(
    "/group-opt-outs",
    summary="Hand over an opt-out for a group",
    status_code=HTTP_204_NO_CONTENT,
    openapi_extra=NODE,
)
def submit_group_opt_out(body: Envelope, office: Desks) -> None:
    """Take a signed opt-out for all units of the group; repeating it changes nothing."""
    with office.writing() as desk:
        opt_out_groups.record_opt_out(desk, body)


@router.post(
    "/group-set-asides",
    summary="Set aside a group opt-out without the group's seal",
    status_code=HTTP_204_NO_CONTENT,
    openapi_extra=NODE,
)
def set_aside_group_opt_out(body: Envelope, office: Desks) -> None:
    """Take a unit's signed word that a group opt-out has no seal; repeating it changes nothing."""
    with office.writing() as desk:
        opt_out_groups.record_set_aside(desk, body)
