"""What an account may be: for the whole house, or for one unit only.

`author` is the data scientist's role, `operator` that of the federation. Nodes have no accounts:
they sign.
"""

from typing import Literal, get_args

UnitRole = Literal["unit_operator"]
HouseRole = Literal[
    "admin", "compliance", "author", "evaluator", "dpo", "approver", "operator", "auditor"
]
Role = Literal[HouseRole, UnitRole]
ROLES: tuple[Role, ...] = get_args(Role)
HOUSE_ROLES: tuple[HouseRole, ...] = get_args(HouseRole)
UNIT_ROLES: tuple[UnitRole, ...] = get_args(UnitRole)
# Who may read what the gate answered, and all that follows from it.
OVERSEER_ROLES: tuple[HouseRole, ...] = ("auditor", "compliance", "dpo", "admin")
# Who may approve a model version. The officer advises and monitors, and does not decide what is
# used (Art. 38(6) GDPR).
MODEL_APPROVER_ROLES: tuple[HouseRole, ...] = ("approver", "compliance", "evaluator")
# Who may move an alias forward, and who back: to end harm the officer may as well.
PROMOTER_ROLES: tuple[HouseRole, ...] = ("approver", "compliance")
ROLLBACK_ROLES: tuple[HouseRole, ...] = ("approver", "compliance", "dpo")
