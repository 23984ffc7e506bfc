"""Routes of what became of opt-outs: who oversees, and each unit's operator for their own."""

from typing import Annotated

from fastapi import APIRouter, Path

from fedcore.enforcement import GroupOptOutStatusList, OptOutStatus, OptOutStatusList
from fedcore.errors import NotFoundError
from fedcore.record import Name
from governance import memberships
from governance.enforcement import list_statuses, read_status
from governance.group_enforcement import list_group_statuses
from governance.office import Desk
from governance.routes.callers import OWN_UNIT, Desks, UnitOverseer, verify_concerns
from governance.routes.paging import Paged
from registry import opt_out_groups, optouts, units
from registry.accounts import Account

Sequence = Annotated[int, Path(ge=1, le=2**53 - 1)]
router = APIRouter(prefix="/v1")


@router.get("/opt-outs/{unit}", summary="List how a unit's opt-outs act", openapi_extra=OWN_UNIT)
def list_opt_outs(unit: Name, page: Paged, office: Desks, caller: UnitOverseer) -> OptOutStatusList:
    """Return the status of a unit's opt-outs by sequence; nobody is named, by any pseudonym."""
    with office.reading() as desk:
        _verify_known(desk, unit, caller)
        found = optouts.list_events(desk.session, unit, page.after(0), page.limit + 1)
        shown = page.cut(found, lambda stored: stored.event.sequence)
        return OptOutStatusList(opt_outs=list_statuses(desk, unit, shown))


@router.get(
    "/opt-outs/{unit}/{sequence}", summary="Read how an opt-out acts", openapi_extra=OWN_UNIT
)
def read_opt_out(
    unit: Name, sequence: Sequence, office: Desks, caller: UnitOverseer
) -> OptOutStatus:
    """Return how far an opt-out has come, since when it acts, and what was trained before."""
    with office.reading() as desk:
        _verify_known(desk, unit, caller)
        return read_status(desk, unit, sequence)


@router.get(
    "/group-opt-outs/{unit}",
    summary="List how a unit's opt-outs for its group act",
    openapi_extra=OWN_UNIT,
)
def list_group_opt_outs(
    unit: Name, page: Paged, office: Desks, caller: UnitOverseer
) -> GroupOptOutStatusList:
    """Return what a unit was told for its group, by sequence, and since when its units act on it; a
    unit's operator sees when their own does. Nobody is named, by any pseudonym.
    """
    with office.reading() as desk:
        _verify_known(desk, unit, caller)
        found = opt_out_groups.list_events(desk.session, unit, page.after(0), page.limit + 1)
        shown = page.cut(found, lambda stored: stored[0].sequence)
        return GroupOptOutStatusList(opt_outs=list_group_statuses(desk, unit, shown, caller.unit))


def _verify_known(desk: Desk, unit: str, caller: Account) -> None:
    verify_concerns(caller, [unit], NotFoundError(*memberships.UNKNOWN))
    if units.find(desk.session, unit) is None:
        raise NotFoundError(*memberships.UNKNOWN)
