"""The gate's rules as a page of the reference, made from the rules themselves."""

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


def rules_page() -> str:
    """Return the page in Markdown, one row for each rule in the order of the gate."""
    rows = [f"| `{rule.code}` | {rule.asks} | {rule.asked_by} |\n" for rule in RULES]
    return _HEAD + "".join(rows)
