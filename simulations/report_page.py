"""The report of a simulated run as one HTML page that needs nothing else.

The page is for four readers: a compliance officer, a unit operator, a data scientist and an
engineer. It says what is claimed, from what it follows and what it cannot show.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader

from simulations.report_charts import BarChart, LineChart, bar_chart, line_chart

NOTHING = "—"
MINUS = "\N{MINUS SIGN}"
GUESSING = 0.5


def render_page(report: Mapping[str, object]) -> str:
    """Return the page of a `demo-report/1` as HTML.

    Guarantees: the same report gives the same bytes; the page loads nothing and runs no script, and
        its own policy forbids both; every text of the report is escaped; an absent section is left
        out, an absent number is a dash; a claimed epsilon is never rounded down.
    """
    page = _environment().get_template("report.html")
    return page.render(report=report, charts=_charts(report), labels=_labels(report)) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("simulations"),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": show_fixed,
        "signed": show_signed,
        "epsilon": show_epsilon,
        "plain": show_plain,
        "percent": show_percent,
        "at": show_time,
    }
    return environment


def show_fixed(value: object, digits: int = 4) -> str:
    """Return a number with `digits` decimals, or a dash."""
    number = _finite(value)
    return number if isinstance(number, str) else f"{number:,.{digits}f}"


def show_signed(value: object, digits: int = 4) -> str:
    """Return a difference with its sign, or a dash."""
    number = _finite(value)
    if isinstance(number, str):
        return number
    return f"{round(number, digits) + 0.0:+.{digits}f}".replace("-", MINUS)


def show_percent(value: object) -> str:
    """Return a fraction as per cent with one decimal, or a dash."""
    number = _finite(value)
    return number if isinstance(number, str) else f"{100 * number:.1f}\N{NO-BREAK SPACE}%"


def show_epsilon(value: object) -> str:
    """Return an upper bound with three decimals, rounded up, or a dash."""
    number = _finite(value)
    if isinstance(number, str):
        return number
    return str(Decimal(repr(number)).quantize(Decimal("0.001"), ROUND_CEILING))


def show_plain(value: object) -> str:
    """Return a value as it was given: all digits of a float, thousands of an integer apart."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        number = _finite(value)
        return number if isinstance(number, str) else _shortest(number)
    return NOTHING if _absent(value) else str(value)


def _shortest(number: float) -> str:
    return repr(number).removesuffix(".0").replace("e-0", "e-")


def show_time(value: object) -> str:
    """Return an ISO time to the minute in UTC; what is no time is returned as it is."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return show_plain(value)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at.tzinfo else str(value)


def _absent(value: object) -> bool:
    return value is None or isinstance(value, ChainableUndefined)


def _finite(value: object) -> float | str:
    """A finite number, or what is shown in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return float(value)


def _labels(report: Mapping[str, Any]) -> dict[str, str]:
    """Unit → its label, for all units of the data."""
    units = (report.get("data") or {}).get("units") or []
    return {str(unit["unit"]): str(unit.get("label") or unit["unit"]) for unit in units}


def _charts(report: Mapping[str, Any]) -> dict[str, LineChart | BarChart | None]:
    auc = report.get("auc") or {}
    return {
        "by_round": _by_round(auc),
        "comparison": _comparison(auc, _labels(report)),
        "epsilon": _epsilon(report),
        "phases": bar_chart(
            [(p["name"], "plain", p.get("seconds")) for p in report.get("phases") or []]
        ),
    }


def _by_round(auc: Mapping[str, Any]) -> LineChart | None:
    levels = [
        ("Pooled, not private", "pooled", auc.get("pooled_nonprivate")),
        ("A unit alone, mean", "alone", auc.get("unit_alone_mean")),
    ]
    given = [(name, kind, value) for name, kind, value in levels if value is not None]
    return line_chart(auc.get("by_round") or [], given, "Federated, private")


def _comparison(auc: Mapping[str, Any], labels: Mapping[str, str]) -> BarChart | None:
    rows = [
        ("Pooled, not private", "pooled", auc.get("pooled_nonprivate")),
        ("Federated, private", "line", auc.get("federated_dp")),
        ("A unit alone, mean", "alone", auc.get("unit_alone_mean")),
    ]
    alone = auc.get("unit_alone") or {}
    rows += [(f"Alone: {labels.get(unit, unit)}", "plain", alone[unit]) for unit in alone]
    values = [row[2] for row in rows if isinstance(row[2], int | float)]
    return bar_chart(rows, bounds=(GUESSING if min(values, default=0) >= GUESSING else 0.0, 1.0))


def _epsilon(report: Mapping[str, Any]) -> BarChart | None:
    claims, labels = report.get("epsilon") or {}, _labels(report)
    pld, caps = report.get("epsilon_pld") or {}, report.get("epsilon_cap") or {}
    rows = [(labels.get(unit, unit), "line", claim) for unit, claim in claims.items()]
    return bar_chart(rows, [{"pld": pld.get(unit), "cap": caps.get(unit)} for unit in claims])
