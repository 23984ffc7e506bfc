"""Evaluations as governance lists them, unsigned: enough to find one."""

from fedcore.record import At, Digest, Name, Part


class EvaluationSummary(Part):
    """An evaluation in the list: of which bytes, in which run; `document` is the signed one."""

    run_id: Name
    artifacts: tuple[Digest, ...]
    document: Digest
    evaluated_at: At


class EvaluationList(Part):
    """Evaluations in the order in which they were derived."""

    evaluations: tuple[EvaluationSummary, ...]
