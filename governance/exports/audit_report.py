"""A fairness audit as a page of HTML that stands by itself."""

from fedcore.fairness_audits import FairnessAudit
from governance.exports.environment import environment


def render_audit(audit: FairnessAudit) -> str:
    """Return an audit as one document.

    Guarantees: every value is escaped, so that no name of a group becomes markup; nothing is
        fetched from anywhere when it is looked at; a verdict is told by words, not by colour alone.
    """
    return environment().get_template("fairness_audit.html").render(audit=audit, found=audit.found)
