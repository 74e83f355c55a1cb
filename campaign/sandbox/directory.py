"""Lists of users, for administrators: Users:list of the eSignature API and of the Admin API, with their limits."""

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from werkzeug import Request

from campaign.sandbox.grant import DROPPED, CannedAnswer, Faults, Grants, Person, json_answer
from campaign.sandbox.organizations import Organizations

_HOURLY = 3000


class Directory:
    """The users by account, for those who are `administrators`. `burst` requests in `burst_seconds` are let through, no more."""

    def __init__(self, people: Mapping[str, Person], organizations: Organizations, grants: Grants, faults: Faults) -> None:
        self.administrators: set[str] = set()
        self.burst, self.burst_seconds = 200, 30.0
        self.requests: list[int] = []  # the status of each answer; 0: the connection was dropped
        self._people, self._organizations, self._grants, self._faults = people, organizations, grants, faults
        self._recent: deque[float] = deque()

    def about(self, person: Person, base_uri: str) -> dict[str, Any]:
        """Return what /oauth/userinfo tells of a user."""
        given, _, family = person.name.partition(" ")
        names = {"name": person.name, "given_name": given, "family_name": family}
        accounts = [self._account(name, base_uri, is_default=not place) for place, name in enumerate(person.accounts)]
        return {"sub": person.user_id, **names, "created": "2015-08-13T22:03:03.45", "email": person.email, "accounts": accounts}

    def of_account(self, request: Request, account_id: str) -> CannedAnswer:
        """Answer Users:list of the eSignature API."""
        return self._limited(lambda: self._page_of_account(request, account_id))

    def of_organization(self, request: Request, organization_id: str) -> CannedAnswer:
        """Answer the Admin API's list of an account's users."""
        return self._limited(lambda: self._page_of_organization(request, organization_id))

    def _account(self, name: str, base_uri: str, *, is_default: bool) -> dict[str, Any]:
        account = {"account_id": account_id(name), "is_default": is_default, "account_name": name, "base_uri": base_uri}
        owner = self._organizations.owner(name)
        return account | ({"organization": {"organization_id": owner.organization_id}} if owner else {})

    def _page_of_account(self, request: Request, account: str) -> CannedAnswer:
        if not self._may(request, "signature"):
            return json_answer(401, errorCode="USER_LACKS_PERMISSIONS", message="This user lacks sufficient permissions.")
        start, count = int(request.args.get("start_position", 0)), min(int(request.args.get("count", 100)), 100)
        members = self._members(account)
        users = [_in_esignature(person) for person in members[start : start + count]]
        sizes = {"resultSetSize": len(users), "totalSetSize": len(members), "startPosition": start}
        return json_answer(200, users=users, **{name: str(size) for name, size in sizes.items()})

    def _page_of_organization(self, request: Request, organization: str) -> CannedAnswer:
        person = self._may(request, "user_read")
        administered = [one.organization_id for one in self._organizations.of(person.user_id)] if person else []
        if organization.lower() not in administered:
            return json_answer(403, error="unauthorized", error_description="You are not an organization admin.")
        start, take = int(request.args.get("start", 0)), min(int(request.args.get("take", 20)), 250)
        members = self._members(request.args.get("account_id", ""))
        users = [_in_organization(person) for person in members[start : start + take]]
        return json_answer(200, users=users, paging={"result_set_size": len(users), "total_set_size": len(members)})

    def _may(self, request: Request, scope: str) -> Person | None:
        person = self._grants.bearer_of(request.authorization.token if request.authorization else None, scope)
        return person if person and person.user_id.lower() in self.administrators else None

    def _members(self, account: str) -> list[Person]:
        return [one for one in tuple(self._people.values()) if account.lower() in map(account_id, one.accounts)]

    def _limited(self, page: Callable[[], CannedAnswer]) -> CannedAnswer:
        """Answer a request within the limits, or with the fault that was asked for, and tell what is left."""
        fault = self._faults.lists.get(len(self.requests) + 1)
        left = self.burst - self._taken(time.monotonic())
        if fault is None and left <= 0:
            fault = json_answer(429, errorCode="BURST_APIINVOCATION_LIMIT_EXCEEDED", message="The burst limit is exceeded.")
        answer = fault or page()
        self.requests.append(answer.status)
        if answer is DROPPED:
            raise ConnectionAbortedError("a fault that was asked for")
        limits = {"Limit": _HOURLY, "Remaining": _HOURLY - len(self.requests), "Reset": int(self._grants.clock()) + 3600}
        headers = {f"X-RateLimit-{name}": str(value) for name, value in limits.items()}
        burst = {"X-BurstLimit-Limit": str(self.burst), "X-BurstLimit-Remaining": str(max(left - 1, 0))}
        return CannedAnswer(answer.status, answer.body, {**answer.headers, **headers, **burst})

    def _taken(self, now: float) -> int:
        """Count the requests of the last seconds, this one left out."""
        while self._recent and self._recent[0] <= now - self.burst_seconds:
            self._recent.popleft()
        self._recent.append(now)
        return len(self._recent) - 1


def account_id(name: str) -> str:
    """Return the id of an account."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"account {name}"))


def _in_esignature(person: Person) -> dict[str, Any]:
    first, _, last = person.name.partition(" ")
    names = {"userName": person.name, "firstName": first, "lastName": last}
    return {"userId": person.user_id, "email": person.email, **names, "userStatus": "Active" if person.active else "Closed"}


def _in_organization(person: Person) -> dict[str, Any]:
    first, _, last = person.name.partition(" ")
    status = "active" if person.active else "closed"
    names = {"user_name": person.name, "first_name": first, "last_name": last}
    return {"id": person.user_id, "email": person.email, **names, "user_status": status, "membership_status": status}
