"""Routes of accounts: make them, list them, end them."""

from fastapi import APIRouter
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from fedcore.record import Name
from governance import accounts, claims
from governance.bodies import AccountCreated, AccountRequest, ClaimRequest
from governance.roles import Role
from governance.routes.callers import PUBLIC, Admin, Desks, Overseer
from governance.routes.paging import Paged
from governance.session_bodies import AccountList, AccountView
from registry import accounts as stored_accounts
from registry.accounts import Account, KeyRecord, Listed

router = APIRouter(prefix="/v1")


@router.post("/accounts", summary="Make an account", status_code=HTTP_201_CREATED)
def create_account(body: AccountRequest, office: Desks, caller: Admin) -> AccountCreated:
    """Return the new account's API key, which is shown this once."""
    wanted = Account(body.name, body.role, body.public_key, unit=body.unit)
    with office.writing() as desk:
        key = accounts.create_account(desk, wanted)
    return AccountCreated(name=body.name, role=body.role, api_key=key)


@router.get("/accounts", summary="List the accounts")
def list_accounts(page: Paged, office: Desks, caller: Overseer) -> AccountList:
    """Return all accounts, revoked ones as well, in the order in which they were made."""
    with office.reading() as desk:
        found = stored_accounts.list_after(desk.session, page.after(0), page.limit + 1)
    return AccountList(
        accounts=tuple(_view(item) for _, item in page.cut(found, lambda pair: pair[0]))
    )


@router.post(
    "/accounts/{name}/{role}/revocation",
    summary="Revoke an account",
    status_code=HTTP_204_NO_CONTENT,
)
def revoke_account(name: Name, role: Role, office: Desks, caller: Admin) -> None:
    """Make an account's API key worthless and end its sessions; a second time changes nothing."""
    with office.writing() as desk:
        accounts.revoke_account(desk, name, role)


@router.post(
    "/claims",
    summary="Become the first administrator",
    status_code=HTTP_204_NO_CONTENT,
    openapi_extra=PUBLIC,
)
def claim(body: ClaimRequest, office: Desks) -> None:
    """Take the one-time code that was shown on the host; the same claim again changes nothing."""
    with office.writing() as desk:
        claims.claim(desk, body.code, body.name, KeyRecord(body.key_id, body.key_hash))


def _view(item: Listed) -> AccountView:
    account = item.account
    return AccountView.model_validate(
        {
            "name": account.name,
            "role": account.role,
            "unit": account.unit,
            "revoked": account.revoked,
            "has_password": item.has_password,
            "created_at": item.created_at,
        }
    )
