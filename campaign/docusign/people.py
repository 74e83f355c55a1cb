"""Docusign's own lists of users, page by page: of an account (eSignature, Users:list), and of an organization (Admin API)."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from campaign.config import Docusign
from campaign.config.values import is_loopback
from campaign.docusign.acting import Acting
from campaign.errors import DocusignRefused, DocusignUnreachable, UsageError

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ADMIN_API = {"demo": "https://api-d.docusign.net", "production": "https://api.docusign.net"}
_A_PAGE = 100  # users: the most that either list gives
_READINGS = 2  # of a whole list that changed while it was read


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the user who is acted for."""

    account_id: str
    name: str
    base_uri: str  # pinned
    organization_id: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class Member:
    """One user as Docusign lists it; foreign text, as it came."""

    user_id: str
    email: str
    name: str
    first_name: str
    last_name: str
    status: str
    company: str = ""
    job_title: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether the account of this user is closed."""
        return self.status.casefold() == "closed"


def accounts(acting: Acting, config: Docusign) -> list[Account]:
    """The accounts of the user who is acted for. Raises DocusignRefused for one that lies anywhere but at Docusign."""
    found = acting.get(f"{config.server}/oauth/userinfo").get("accounts")
    return [_account(each, config) for each in (found if isinstance(found, list) else []) if isinstance(each, dict)]


def of_account(acting: Acting, account: Account) -> list[Member]:
    """All users of an account, the closed ones too. Source: developers.docusign.com, reference/users/users/list."""
    url = f"{account.base_uri}/restapi/v2.1/accounts/{account.account_id}/users?count={_A_PAGE}&start_position="
    return _whole(acting, url, lambda page: page.get("totalSetSize"), _of_esignature)


def of_organization(acting: Acting, config: Docusign, organization: str, within: list[Account]) -> list[Member]:
    """All users of those accounts that belong to the organization; who is in several stands there once.

    Source: the Admin API's admin.rest.swagger-v2.1.json. Raises UsageError where none of the accounts belongs to it.
    """
    own = [account for account in within if account.organization_id == organization.lower()]
    if not own:
        what = f"no account of that user belongs to the organization {organization}"
        raise UsageError(what, "its id stands in Docusign Admin; --as must name one of its administrators")
    base = config.account_server or _ADMIN_API[config.environment]
    by_id: dict[str, Member] = {}
    for account in own:
        url = f"{base}/Management/v2/organizations/{organization}/users?account_id={account.account_id}&take={_A_PAGE}&start="
        for member in _whole(acting, url, _total_of_organization, _of_admin):
            if member.user_id not in by_id or by_id[member.user_id].is_closed:  # open anywhere is open
                by_id[member.user_id] = member
    return [*by_id.values()]


def _whole(
    acting: Acting, url: str, total_of: Callable[[dict[str, Any]], Any], member: Callable[[Mapping[str, Any]], Member]
) -> list[Member]:
    """Every page of a list. One that changed while it was read is read again.

    Raises DocusignUnreachable where it holds fewer or more users than it says all the same.
    """
    by_id: dict[str, Member] = {}
    total = 0
    for _ in range(_READINGS):
        by_id.clear()
        for page in _pages(acting, url):
            before, total = len(by_id), _count(total_of(page))
            by_id |= {each.user_id: each for each in map(member, page["users"])}
            if len(by_id) >= total or len(by_id) == before:  # a page without anybody new: it would never end
                break
        if len(by_id) == total:
            return [*by_id.values()]
    what = f"Docusign counts {total} users and lists {len(by_id)}"
    raise DocusignUnreachable(what, "the list changes, or is cut short: try again; the file that is there was left alone")


def _pages(acting: Acting, url: str) -> Iterator[dict[str, Any]]:
    """One page after the other, until one is empty. Where the answer says that the next lies is not followed."""
    start = 0
    while True:
        page = acting.get(f"{url}{start}")
        users = page.get("users", [])
        if not isinstance(users, list) or not all(isinstance(user, dict) for user in users):
            raise DocusignRefused(f"{url.partition('?')[0]} gives no list of users", "look for a proxy in between")
        yield page
        if not users:
            return
        start += len(users)


def _of_esignature(user: Mapping[str, Any]) -> Member:
    names = ("userId", "email", "userName", "firstName", "lastName", "userStatus", "company", "jobTitle")
    return Member(*(_text(user, name) for name in names))


def _of_admin(user: Mapping[str, Any]) -> Member:
    states = {_text(user, name) for name in ("user_status", "membership_status")}
    status = next((state for state in states if state.casefold() == "closed"), _text(user, "membership_status"))
    names = ("id", "email", "user_name", "first_name", "last_name")
    user_id, email, name, first_name, last_name = (_text(user, name) for name in names)
    return Member(user_id, email, name, first_name, last_name, status)


def _account(found: Mapping[str, Any], config: Docusign) -> Account:
    organization = found.get("organization")
    return Account(
        _guid(found.get("account_id")),
        _text(found, "account_name"),
        _pinned(_text(found, "base_uri"), config),
        _guid(organization.get("organization_id")) if isinstance(organization, dict) else "",
        found.get("is_default") is True,
    )


def _pinned(base_uri: str, config: Docusign) -> str:
    """The base URI, without a final slash, if a token may go there: to Docusign under TLS, or in the sandbox to this machine."""
    parts = urlsplit(base_uri)
    host, bare = parts.hostname or "", f"{parts.scheme}://{parts.netloc}" == base_uri.rstrip("/")
    at_docusign = parts.scheme == "https" and host.endswith(".docusign.net") and parts.netloc == host
    if bare and (is_loopback(host) and "@" not in parts.netloc if config.account_server else at_docusign):
        return base_uri.rstrip("/")
    raise DocusignRefused(
        "the account lies at a server that is not Docusign's", "look for a proxy in between; nothing was sent there"
    )


def _guid(value: object) -> str:
    """An id in lower case; "" for anything else, which has no business in a URL."""
    return value.lower() if isinstance(value, str) and _GUID.fullmatch(value) else ""


def _count(value: object) -> int:
    """A count: eSignature writes it as text, the Admin API as a number. -1 for anything else, which no list has."""
    if isinstance(value, float) and 0 <= value < 1e9:  # noqa: PLR2004  # as all numbers are read
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value) else -1


def _total_of_organization(page: dict[str, Any]) -> object:
    paging = page.get("paging")
    return paging.get("total_set_size") if isinstance(paging, dict) else None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
