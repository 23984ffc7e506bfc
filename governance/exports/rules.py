"""The gates' rules as a page of the reference, made from the rules themselves."""

from governance.decisions import promotion
from governance.decisions.gate import RULES

_HEAD = """\
# Rules of the gate

Made by `fedpact governance rules` from `governance/decisions/gate.py`; a test fails when this page
is not what the command prints. Every request for a permit or a renewal is held against all of them,
in this order; each rule that objects adds its reason code to the refusal. A missing fact refuses,
and no fact that gets worse ever turns a refusal into a yes.

Every decision is kept with the facts it rests on, their digest and the version of the rules, which
`GET /v1/permits/{run_id}/decisions` shows; `GET /v1/permits/{run_id}/replays` decides it once
more. See [ADR 0017](../adr/0017-decisions-can-be-replayed.md).

| reason code | what must hold | asked for by |
|---|---|---|
"""
_PROMOTION = """\

## Rules of promotion

Made from `governance/decisions/promotion.py`. Every request to give a model version the alias
`champion` is held against all of them; one for `challenger` against those marked so. `fedpact
governance models check` shows them all at once, with the way out. Every answer is kept with its
facts (`GET /v1/models/{name}/{version}/promotion/answers`). A rollback is asked none of them. See
[ADR 0045](../adr/0045-aliases-and-the-gate-of-promotion.md).

| reason code | what must hold | challenger | asked for by |
|---|---|---|---|
"""


def rules_page() -> str:
    """Return the page in Markdown, one row for each rule in the order of its gate."""
    rows = [f"| `{rule.code}` | {rule.asks} | {rule.asked_by} |\n" for rule in RULES]
    of_promotion = [
        f"| `{rule.code}` | {rule.asks} | {'yes' if rule.of_challenger else ''} "
        f"| {rule.asked_by} |\n"
        for rule in promotion.RULES
    ]
    return "".join([_HEAD, *rows, _PROMOTION, *of_promotion])
