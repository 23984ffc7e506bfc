"""What the quality report may find: each finding has a stable code and a way out."""

import dataclasses
from dataclasses import dataclass

WAYS_OUT = {
    "source.empty": "export the customers again",
    "source.broken_lines": "mend the export: quotes, number of cells and UTF-8 in each line",
    "customer.missing_identifier": "give each customer an identifier",
    "customer.decimal_identifier": "export identifiers as text, not as numbers with decimals",
    "customer.doubled": "keep one row for each customer, or agree on `rows_per_customer`",
    "customer.crowded": "look for a join that repeats rows; of each customer the most rows count",
    "row.doubled": "export each row once; look for a join that repeats rows",
    "row.faulty": "mend what the rule names",
    "label.faulty": "write one of the two labels, or map your spellings under `values`",
    "label.constant": "look at the export's filter: nothing can be learnt from one label",
    "label.no_positive": "look at the export's filter and at the label's horizon",
    "label.rare": "look whether the label's horizon is the contract's",
    "field.all_missing": "map the right column, or leave the field out of plans",
    "field.missing_not_allowed": "fill the cells at their origin",
    "field.mostly_missing": "look whether the export joins the right table",
    "field.not_a_number": "write plain numbers with a decimal point; empty for none",
    "field.outside_bounds": "look at unit and origin; bounds are changed in the contract only",
    "field.unknown_category": "map your spellings under `values`",
    "field.constant": "look whether the column is the right one: nothing can be learnt from it",
    "field.pile": "look whether this value stands for something unknown",
    "field.pile_on_bound": "look whether values were cut at the bound",
    "field.sentinel": "export an empty cell where this value stands for none",
    "leak.single_field": "look whether the field is known before the label's horizon begins",
    "proxy.suspected": "tell your data protection officer: the DPIA says what is a proxy",
    "proxy.suspected_jointly": "tell your data protection officer: audit the model's groups",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: stable, a key of WAYS_OUT.
        field: the column of the contract; None for the whole source.
        rows: how many rows it is about.
        measures: what was measured, by its name.
    """

    code: str
    field: str | None = None
    rows: int = 0
    measures: dict[str, float | str] = dataclasses.field(default_factory=dict)

    @property
    def way_out(self) -> str:
        """What to do about it."""
        return WAYS_OUT[self.code]
