"""What an account may be."""

from typing import Literal, get_args

Role = Literal[
    "admin", "compliance", "author", "evaluator", "dpo", "approver", "operator", "auditor"
]
ROLES: tuple[Role, ...] = get_args(Role)
