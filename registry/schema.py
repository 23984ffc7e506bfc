"""The whole schema as one metadata: importing this module is what makes every table known."""

from sqlalchemy import MetaData

from registry.tables import (
    accounts,
    audits,
    documents,
    dpias,
    evaluations,
    incidents,
    models,
    notices,
    opt_out_groups,
    optouts,
    permits,
    promotions,
    requests,
    stops,
    trainings,
)
from registry.tables.row import Row

TABLE_MODULES = (
    accounts,
    audits,
    documents,
    dpias,
    evaluations,
    incidents,
    models,
    notices,
    opt_out_groups,
    optouts,
    permits,
    promotions,
    requests,
    stops,
    trainings,
)


def metadata() -> MetaData:
    """Return the metadata of all tables, which the newest migration must produce."""
    return Row.metadata
