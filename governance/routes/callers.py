"""Who a route is for: written in its signature, shown in the OpenAPI document.

A route with roles shows them as the scopes of its security requirement. A route without an API key
says in `x-fedpact-access` whether it is `public` or for a `node`, whose signature is
on the document.
"""

from typing import Annotated, Any

from fastapi import Depends, Security

from governance.auth import authenticate
from governance.office import Office, office_of
from governance.roles import ROLES
from registry.accounts import Account

Desks = Annotated[Office, Depends(office_of)]

Admin = Annotated[Account, Security(authenticate, scopes=["admin"])]
Author = Annotated[Account, Security(authenticate, scopes=["author"])]
Compliance = Annotated[Account, Security(authenticate, scopes=["compliance"])]
Enroller = Annotated[Account, Security(authenticate, scopes=["compliance", "admin"])]
UnitReader = Annotated[
    Account, Security(authenticate, scopes=["operator", "admin", "compliance", "auditor"])
]
Operator = Annotated[Account, Security(authenticate, scopes=["operator"])]
Actor = Annotated[
    Account,
    Security(authenticate, scopes=["author", "evaluator", "dpo", "approver", "compliance"]),
]
Revoker = Annotated[Account, Security(authenticate, scopes=["compliance", "dpo"])]
Overseer = Annotated[
    Account, Security(authenticate, scopes=["auditor", "compliance", "dpo", "admin"])
]
Anyone = Annotated[Account, Security(authenticate, scopes=list(ROLES))]

PUBLIC: dict[str, Any] = {"x-fedpact-access": "public"}
NODE: dict[str, Any] = {"x-fedpact-access": "node"}
