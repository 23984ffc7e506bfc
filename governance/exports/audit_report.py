"""A fairness audit as a page of HTML that stands by itself."""

from collections.abc import Sequence

from fedcore.fairness_audits import FairnessAudit
from fedcore.fairness_curves import ThresholdCurve
from governance.exports.curve_chart import charts_of
from governance.exports.environment import environment


def render_audit(audit: FairnessAudit, curves: Sequence[ThresholdCurve] = ()) -> str:
    """Return an audit as one document, and what other thresholds would do.

    Guarantees: every value is escaped, so that no name of a group becomes markup; nothing is
        fetched from anywhere when it is looked at; a verdict is told by words, not by colour alone.
    """
    template = environment().get_template("fairness_audit.html")
    shown = [(curve, charts_of(curve)) for curve in curves]
    return template.render(audit=audit, found=audit.found, curves=shown)
