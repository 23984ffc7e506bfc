"""Reference figures of fairness on three real tables, knowing nothing of fedpact's code.

    FEDPACT_DATA=... python fairness_figures.py [NAME ...]

Writes fairness_NAME.json beside this file: a fixed score from public columns, the rows that are
scored, each unit's table by group, and the figures of all rows pooled. Rates come from
scikit-learn (recall and precision of each group's rows); differences and ratios between groups are
those of Hardt, Price and Srebro (2016) and Chouldechova (2017) in the form that fairness libraries
give them: the largest rate less the smallest, the smallest over the largest.

Sensitive columns are no inputs of the scores. The weights are those of a logistic regression of
scikit-learn, rounded to three digits and written into the file, so that a score is the same
everywhere, whatever the next version of a library fits.
"""

import csv
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
SETS = {
    "adult": {
        "source": "UCI Adult (Census Income), adult/adult.csv.gz of the data folder, the official "
        "test split",
        "file": "adult/adult.csv.gz",
        "rows": {"column": "split", "equals": "test"},
        "label": {"column": "income", "equals": ">50K"},
        "unit": "workclass",
        "attributes": {"sex": "sex", "race": "race"},
        "threshold": 0.4,
        "terms": [
            {"column": "age"},
            {"column": "education_num"},
            {"column": "hours_per_week"},
            {"column": "capital_gain", "log": True},
            {"column": "capital_loss", "log": True},
            {"column": "marital_status", "equals": "Married-civ-spouse"},
        ],
    },
    "german_credit": {
        "source": "Statlog German Credit, german_credit/german_credit.csv of the data folder, all "
        "rows",
        "file": "german_credit/german_credit.csv",
        "rows": None,
        "label": {"column": "class", "equals": "2"},
        "unit": "housing",
        "attributes": {"sex": "personal_status_sex", "age": "age"},
        "threshold": 0.3,
        "terms": [
            {"column": "duration"},
            {"column": "amount", "log": True},
            {"column": "installment_rate"},
            {"column": "status", "equals": "A11"},
            {"column": "status", "equals": "A14"},
            {"column": "savings", "equals": "A61"},
            {"column": "credit_history", "equals": "A34"},
        ],
    },
    "telco": {
        "source": "IBM telco customer churn, telco_ibm/telco.csv of the data folder; the test part "
        "are customers whose SHA-256 of customerID begins with a 32-bit number below 2^32 / 5",
        "file": "telco_ibm/telco.csv",
        "rows": {"column": "customerID", "hashed_below": 0.2},
        "label": {"column": "Churn", "equals": "Yes"},
        "unit": "InternetService",
        "attributes": {"SeniorCitizen": "SeniorCitizen"},
        "threshold": 0.3,
        "terms": [
            {"column": "tenure"},
            {"column": "MonthlyCharges"},
            {"column": "Contract", "equals": "Month-to-month"},
            {"column": "Contract", "equals": "Two year"},
            {"column": "InternetService", "equals": "Fiber optic"},
            {"column": "PaymentMethod", "equals": "Electronic check"},
        ],
    },
}
# From a code or number of the table to the group that is declared.
GROUPS = {
    "sex": {"A92": "female", "A95": "female", "A91": "male", "A93": "male", "A94": "male"},
    "SeniorCitizen": {"0": "no", "1": "yes"},
}


def rows_of(folder, known, *, scored=True):
    """Return the rows of a set that are scored, or the others, as dicts of texts."""
    path = Path(folder) / known["file"]
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    return [row for row in rows if is_scored(row, known["rows"]) == scored]


def is_scored(row, rule):
    """Return whether a row is of the part that is scored."""
    if rule is None:
        return True
    if "equals" in rule:
        return row[rule["column"]] == rule["equals"]
    start = hashlib.sha256(row[rule["column"]].encode()).digest()[:4]
    return int.from_bytes(start, "big") < rule["hashed_below"] * 2**32


def inputs_of(rows, known):
    """Return the numbers that the score is made of, one line for each row."""

    def value(row, term):
        if "equals" in term:
            return float(row[term["column"]] == term["equals"])
        number = float(row[term["column"]])
        return math.log1p(number) if term.get("log") else number

    return np.array([[value(row, term) for term in known["terms"]] for row in rows])


def scores_of(rows, known):
    """Return each row's score."""
    weights = np.array([term["weight"] for term in known["terms"]])
    return 1 / (1 + np.exp(-(inputs_of(rows, known) @ weights + known["intercept"])))


def labels_of(rows, known):
    """Return each row's label, 0 or 1."""
    return np.array(
        [int(row[known["label"]["column"]] == known["label"]["equals"]) for row in rows]
    )


def groups_of(rows, known, attribute):
    """Return each row's group of a sensitive attribute."""
    column = known["attributes"][attribute]
    if attribute == "age":
        return ["25 or younger" if float(row[column]) <= 25 else "older" for row in rows]
    return [GROUPS.get(attribute, {}).get(row[column], row[column]) for row in rows]


def rates_of(labels, selected):
    """Return the rates of some rows, by scikit-learn."""
    return {
        "selection_rate": float(np.mean(selected)),
        "true_positive_rate": recall_score(labels, selected),
        "false_positive_rate": 1 - recall_score(labels, selected, pos_label=0),
        "positive_predictive_value": precision_score(labels, selected),
    }


def figures_of(labels, selected, groups):
    """Return rates by group, metrics between groups, and gaps of each group against the rest."""
    groups = np.array(groups)
    names = sorted(set(groups.tolist()))
    rates = {name: rates_of(labels[groups == name], selected[groups == name]) for name in names}
    rest = {name: rates_of(labels[groups != name], selected[groups != name]) for name in names}
    spread = {
        rate: max(of[rate] for of in rates.values()) - min(of[rate] for of in rates.values())
        for rate in next(iter(rates.values()))
    }
    chosen = [of["selection_rate"] for of in rates.values()]
    return {
        "rates": rates,
        "between_groups": {
            "demographic_parity_difference": spread["selection_rate"],
            "demographic_parity_ratio": min(chosen) / max(chosen),
            "equal_opportunity_difference": spread["true_positive_rate"],
            "equalised_odds_difference": max(
                spread["true_positive_rate"], spread["false_positive_rate"]
            ),
            "predictive_parity_difference": spread["positive_predictive_value"],
        },
        "against_the_rest": {
            name: {rate: rates[name][rate] - rest[name][rate] for rate in spread} for name in names
        },
    }


def fitted(folder, known):
    """Return the set with weights of a logistic regression on the rows that are not scored (on all
    where all are), rounded to three digits.
    """
    rows = rows_of(folder, known, scored=known["rows"] is None)
    inputs = inputs_of(rows, known)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(inputs, labels_of(rows, known))
    weights = model[1].coef_[0] / model[0].scale_
    intercept = model[1].intercept_[0] - weights @ model[0].mean_
    terms = [
        {**term, "weight": float(f"{weight:.3g}")}
        for term, weight in zip(known["terms"], weights, strict=True)
    ]
    return {**known, "intercept": float(f"{intercept:.3g}"), "terms": terms}


def tables_of(rows, known):
    """Return each unit's table: for each cell of the crossed groups TN, FN, FP, TP."""
    cells = list(itertools.product(*known["groups"].values()))
    columns = [groups_of(rows, known, attribute) for attribute in known["attributes"]]
    selected = scores_of(rows, known) >= known["threshold"]
    tables: dict[str, list[int]] = {}
    for row, cell, label, chosen in zip(
        rows, zip(*columns, strict=True), labels_of(rows, known), selected, strict=True
    ):
        table = tables.setdefault(row[known["unit"]] or "none", [0] * 4 * len(cells))
        table[4 * cells.index(cell) + 2 * int(chosen) + int(label)] += 1
    return dict(sorted(tables.items()))


def reference_of(folder, known):
    """Return everything that the reference file of a set holds."""
    known = fitted(folder, known)
    rows = rows_of(folder, known)
    labels = labels_of(rows, known)
    selected = (scores_of(rows, known) >= known["threshold"]).astype(int)
    columns = {name: groups_of(rows, known, name) for name in known["attributes"]}
    known["groups"] = {name: sorted(set(groups)) for name, groups in columns.items()}
    return {
        **known,
        "made_by": f"tests/reference/fairness_figures.py, scikit-learn {sklearn.__version__}",
        "count": len(rows),
        "tables": tables_of(rows, known),
        "figures": {name: figures_of(labels, selected, of) for name, of in columns.items()},
    }


def main(names):
    """Write the reference files."""
    for name in names or SETS:
        found = reference_of(os.environ["FEDPACT_DATA"], SETS[name])
        path = HERE / f"fairness_{name}.json"
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
