"""Who a route is for: written in its signature, shown in the OpenAPI document.

A route with roles shows them as the scopes of its security requirement. A route without an API key
or token says in `x-fedpact-access` whether it is `public` or for a `node`, whose signature is on
the document. A route that admits operators of units says in `x-fedpact-units` what they may see:
`own`, what is about their own unit and nothing else, or `none`, when it is about no unit. To all
others it shows the whole house.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Depends, Security

from fedcore.errors import NotFoundError
from governance.auth import authenticate
from governance.office import Office, office_of
from governance.roles import (
    HOUSE_ROLES,
    MODEL_APPROVER_ROLES,
    PROMOTER_ROLES,
    ROLES,
    ROLLBACK_ROLES,
    UNIT_ROLES,
)
from registry.accounts import Account

Desks = Annotated[Office, Depends(office_of)]

Admin = Annotated[Account, Security(authenticate, scopes=["admin"])]
Author = Annotated[Account, Security(authenticate, scopes=["author"])]
Compliance = Annotated[Account, Security(authenticate, scopes=["compliance"])]
Enroller = Annotated[Account, Security(authenticate, scopes=["compliance", "admin"])]
NodeRevoker = Annotated[
    Account, Security(authenticate, scopes=["compliance", "admin", *UNIT_ROLES])
]
UnitReader = Annotated[
    Account,
    Security(authenticate, scopes=["operator", "admin", "compliance", "auditor", *UNIT_ROLES]),
]
Operator = Annotated[Account, Security(authenticate, scopes=["operator"])]
Actor = Annotated[
    Account,
    Security(authenticate, scopes=["author", "evaluator", "dpo", "approver", "compliance"]),
]
Revoker = Annotated[Account, Security(authenticate, scopes=["compliance", "dpo"])]
ModelApprover = Annotated[Account, Security(authenticate, scopes=list(MODEL_APPROVER_ROLES))]
Promoter = Annotated[Account, Security(authenticate, scopes=list(PROMOTER_ROLES))]
RollbackKeeper = Annotated[Account, Security(authenticate, scopes=list(ROLLBACK_ROLES))]
Overseer = Annotated[
    Account, Security(authenticate, scopes=["auditor", "compliance", "dpo", "admin"])
]
UnitOverseer = Annotated[
    Account,
    Security(authenticate, scopes=["auditor", "compliance", "dpo", "admin", *UNIT_ROLES]),
]
House = Annotated[Account, Security(authenticate, scopes=list(HOUSE_ROLES))]
Anyone = Annotated[Account, Security(authenticate, scopes=list(ROLES))]

PUBLIC: dict[str, Any] = {"x-fedpact-access": "public"}
NODE: dict[str, Any] = {"x-fedpact-access": "node"}
OWN_UNIT: dict[str, Any] = {"x-fedpact-units": "own"}
NO_UNIT: dict[str, Any] = {"x-fedpact-units": "none"}


def verify_concerns(caller: Account, units: Iterable[str], missing: NotFoundError) -> None:
    """Answer a unit's operator about others' things as if there were none.

    Raises: `missing`, which is what the route raises for something that is not there.
    """
    if caller.unit is not None and caller.unit not in units:
        raise missing
