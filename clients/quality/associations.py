"""What the allowed inputs tell of the sensitive fields, one by one and together.

It informs the unit and forbids nothing: what a proxy is, the DPIA says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.quality.fields import BINS, Column, Numbers
from clients.quality.findings import Finding
from clients.quality.logistic import Classifier, scores
from clients.quality.measures import (
    auc_with_error,
    chance,
    cramers_v,
    excess,
    shared_information,
    table_of,
)

PROXY_V = 0.3
PROXY_INFORMATION = 0.1
PROXY_AUC = 0.65
PAIR_ROWS = 100
MODEL_ROWS = 20_000
MODEL_COLUMNS = 500
MODEL_LEVELS = 10
LEVEL_ROWS = 30

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Association:
    """How strongly an input and a sensitive field go together; None where it cannot be told."""

    field: str
    sensitive: str
    rows: int
    cramers_v: float | None
    shared_information: float | None


@dataclass(frozen=True)
class Prediction:
    """How well all inputs together tell one level of a sensitive field from its others."""

    sensitive: str
    level: str
    rows: int
    auc: float
    standard_error: float


def associate(columns: Sequence[Column]) -> tuple[list[Association], list[Finding]]:
    """Return every pair of an allowed and a sensitive field, and which are suspected of a proxy."""
    allowed, sensitive = _sides(columns)
    known = {
        target.about.name: np.where(target.missing.to_numpy(), -1, target.codes())
        for target in sensitive
    }
    pairs: list[Association] = []
    findings: list[Finding] = []
    for column in allowed:
        codes = column.codes()
        for name, targets in known.items():
            table = table_of(codes, targets)
            pair = _pair(column.about.name, name, table)
            pairs.append(pair)
            findings += _suspect(pair, table)
    return pairs, findings


def _sides(columns: Sequence[Column]) -> tuple[list[Column], list[Column]]:
    """Return the fields that may be inputs, and those that never are."""
    allowed = [column for column in columns if column.about.sensitivity == "none"]
    return allowed, [column for column in columns if column.about.sensitivity != "none"]


def _pair(field: str, sensitive: str, table: Numbers) -> Association:
    rows = int(table.sum())
    if rows < PAIR_ROWS:
        return Association(field, sensitive, rows, None, None)
    return Association(field, sensitive, rows, cramers_v(table), shared_information(table))


def _suspect(pair: Association, table: Numbers) -> list[Finding]:
    v, shared = pair.cramers_v or 0.0, pair.shared_information or 0.0
    if v < PROXY_V and shared < PROXY_INFORMATION:
        return []
    if excess(table) <= 3 * chance(table):  # as much comes about by chance
        return []
    measures: dict[str, float | str] = {
        "sensitive": pair.sensitive,
        "cramers_v": v,
        "shared_information": shared,
    }
    return [Finding("proxy.suspected", pair.field, pair.rows, measures)]


def predict(
    columns: Sequence[Column], subject: pl.Series
) -> tuple[list[Prediction], list[Finding]]:
    """Return how well a small model tells each sensitive field from all allowed ones.

    Half of the customers teach it and the other half hold it to account; which half somebody is in
    follows from their pseudonym, as does who is among at most MODEL_ROWS.
    """
    allowed, sensitive = _sides(columns)
    order = subject.arg_sort(nulls_last=True).to_numpy()[: len(subject) - subject.null_count()]
    order = order[:MODEL_ROWS].astype(np.int64)
    if not allowed or not sensitive or len(order) < 4 * LEVEL_ROWS:
        return [], []
    half = len(order) // 2
    inputs = _inputs(allowed, order, half)
    classifier = Classifier(inputs[:half])
    found = [
        prediction
        for target in sensitive
        for prediction in _predict(target, classifier, inputs[half:], order)
    ]
    return found, [_suspect_jointly(one) for one in found if _lower(one) >= PROXY_AUC]


def _inputs(allowed: Sequence[Column], order: Codes, half: int) -> Numbers:
    """Return customers as numbers: a column for each level that the first half has, and one for
    each number between its bounds; those that most of the first half has, where there are many.
    """
    blocks: list[tuple[int, Numbers]] = []
    for column in allowed:
        codes = column.codes()[order]
        for level, count in zip(*np.unique(codes[:half], return_counts=True), strict=True):
            blocks.append((int(count), (codes == level).astype(np.float64)))
        if not column.about.categories:
            blocks.append((half, _scaled(column, codes, order)))
    blocks.sort(key=lambda block: -block[0])
    return np.column_stack([cells for _, cells in blocks[:MODEL_COLUMNS]])


def _scaled(column: Column, codes: Codes, order: Codes) -> Numbers:
    lower, upper = float(column.about.lower or 0.0), float(column.about.upper or 0.0)
    share = (column.values.fill_null(lower).to_numpy()[order] - lower) / (upper - lower)
    return np.where((codes >= 0) & (codes < BINS), 2.0 * share - 1.0, 0.0)


def _predict(
    target: Column, classifier: Classifier, rows: Numbers, order: Codes
) -> Iterator[Prediction]:
    codes = np.where(target.missing.to_numpy(), -1, target.codes())[order]
    teach, test = np.split(codes, [len(order) - len(rows)])
    for name, first, last in _questions(target, codes):
        learnt, held = ((half >= first) & (half <= last) for half in (teach, test))
        if min(_least(learnt, teach), _least(held, test)) < LEVEL_ROWS:
            continue
        found = scores(classifier.fit(learnt.astype(np.float64), teach >= 0), rows)
        auc, error = auc_with_error(found[test >= 0], held[test >= 0])
        yield Prediction(target.about.name, name, int((test >= 0).sum()), auc, error)


def _least(is_level: NDArray[np.bool_], codes: Codes) -> int:
    """Return the smaller number of rows: of the level, or of the others."""
    count = int(is_level.sum())
    return min(count, int((codes >= 0).sum()) - count)


def _questions(target: Column, codes: Codes) -> Iterator[tuple[str, int, int]]:
    """Yield what is told apart from the rest: the most frequent categories, the second one alone
    where there are two; numbers from the edge on that halves the rows best.
    """
    counts = np.bincount(codes[codes >= 0], minlength=target.levels)
    categories = target.about.categories
    if categories:
        often = [1] if len(categories) == 2 else np.argsort(-counts, kind="stable")[:MODEL_LEVELS]
        yield from ((categories[level], int(level), int(level)) for level in often)
        return
    above = counts[::-1].cumsum()[::-1]
    edge = 1 + int(np.argmin(np.abs(above[1:] - counts.sum() / 2)))
    lower, upper = float(target.about.lower or 0.0), float(target.about.upper or 0.0)
    yield f"from {lower + (upper - lower) * edge / BINS:g}", edge, BINS - 1


def _lower(found: Prediction) -> float:
    return found.auc - 2 * found.standard_error


def _suspect_jointly(found: Prediction) -> Finding:
    measures: dict[str, float | str] = {
        "sensitive": found.sensitive,
        "level": found.level,
        "auc": found.auc,
        "standard_error": found.standard_error,
    }
    return Finding("proxy.suspected_jointly", None, found.rows, measures)
