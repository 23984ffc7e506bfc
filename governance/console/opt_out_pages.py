"""The page of a unit's opt-outs: lag, since when they act, and the models trained before."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from fedcore.enforcement import OptOutStatus, TrainedModel
from fedcore.errors import NotFoundError
from fedcore.record import Name
from governance import memberships
from governance.console.rim import ConsoleRoute, show_page
from governance.console.seats import Desks, Overseeing
from governance.decisions.enforcement import say_decided
from governance.enforcement import list_statuses
from governance.group_enforcement import list_group_statuses
from registry import opt_out_groups, optouts, overviews, units

PAGE_SIZE = 50
_LAST = 2**53 - 1

Before = Annotated[int, Query(ge=1, le=_LAST)]
router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@dataclass(frozen=True)
class ModelLine:
    """A model that was trained before some of the opt-outs shown: how many, for how many of them
    nothing is decided, and what was decided about the newest of them for which something is.
    """

    name: str
    version: int
    opt_outs: int
    undecided: int
    withdrawn: bool
    said: str


@router.get("/opt-outs/{unit}")
def show_unit(unit: Name, office: Desks, seat: Overseeing, before: Before = _LAST) -> Response:
    """Show how a unit's opt-outs act, the newest first. Nobody is named, by whatever pseudonym."""
    with office.reading() as desk:
        if units.find(desk.session, unit) is None:
            raise NotFoundError(*memberships.UNKNOWN)
        known = overviews.count_opt_outs(desk.session, unit).get(unit)
        end = min(before - 1, known.last_sequence if known else 0)
        start = max(end - PAGE_SIZE, 0)
        found = optouts.list_events(desk.session, unit, start, end - start)
        statuses = list_statuses(desk, unit, found)[::-1]
        given = opt_out_groups.last_sequences(desk.session, [unit]).get(unit, 0)
        newest = opt_out_groups.list_events(
            desk.session, unit, max(given - PAGE_SIZE, 0), PAGE_SIZE
        )
        for_group = list_group_statuses(desk, unit, newest)[::-1]
    content = {
        "unit": unit,
        "statuses": statuses,
        "models": list(_models(statuses)),
        "for_group": for_group,
        "older": start + 1 if start else None,
    }
    return show_page("unit_opt_outs.html", seat, "/console/opt-outs", content)


def _models(statuses: Iterable[OptOutStatus]) -> Iterable[ModelLine]:
    found: dict[tuple[str, int], list[TrainedModel]] = {}
    for status in statuses:
        for model in status.trained_before:
            found.setdefault((model.name, model.version), []).append(model)
    for (name, version), lines in sorted(found.items()):
        decided = next((each for each in lines if each.decided is not None), lines[0])
        yield ModelLine(
            name=name,
            version=version,
            opt_outs=len(lines),
            undecided=sum(each.decided is None for each in lines),
            withdrawn=decided.withdrawn,
            said=say_decided(decided),
        )
