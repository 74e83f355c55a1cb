"""Organizations of the sandbox: the domains that they have claimed, their administrators, and what these consented to for all."""

import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from campaign.sandbox.grant import Person


@dataclass(frozen=True, slots=True)
class Organization:
    """One organization. Its consent counts for everybody whose address is in a domain that it has claimed."""

    name: str
    domains: tuple[str, ...]
    administrators: tuple[str, ...]  # user ids
    applications: tuple[str, ...] = ()  # client ids of its own accounts: what its Docusign Admin can authorize
    accounts: tuple[str, ...] = ()  # by name

    @property
    def organization_id(self) -> str:
        """The id that Docusign Admin shows."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"organization {self.name}"))

    @property
    def domain_names(self) -> frozenset[str]:
        """The claimed domains as they are compared."""
        return frozenset(domain.lower() for domain in self.domains)


class Organizations:
    """All organizations, and their consents by client id. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._all: dict[str, Organization] = {}
        self._consents: dict[tuple[str, str], frozenset[str]] = {}  # by organization and client id
        self._lock = threading.Lock()

    def add(self, organization: Organization) -> None:
        """Add one, or replace that of the same name. Raises ValueError for a domain that another one has claimed."""
        with self._lock:
            others = [other for name, other in self._all.items() if name != organization.name]
            if taken := [other.name for other in others if other.domain_names & organization.domain_names]:
                raise ValueError(f"{taken[0]} has claimed a domain of {organization.name}")
            self._all[organization.name] = organization

    def of(self, user_id: str) -> list[Organization]:
        """Return the organizations that this user administers."""
        with self._lock:
            return [one for one in self._all.values() if user_id.lower() in map(str.lower, one.administrators)]

    def owner(self, account: str) -> Organization | None:
        """Return the organization that an account belongs to, by its name."""
        with self._lock:
            return next((one for one in self._all.values() if account in one.accounts), None)

    def consent(self, organization: str, client_id: str, scopes: Iterable[str]) -> None:
        """Add to what an organization has consented to for all users of its domains."""
        with self._lock:
            key = organization, client_id.lower()
            self._consents[key] = self._consents.get(key, frozenset()) | frozenset(scopes)

    def revoke(self, organization: str, client_id: str) -> None:
        """Take an organization's consent back."""
        with self._lock:
            self._consents.pop((organization, client_id.lower()), None)

    def consented(self, organization: str, client_id: str) -> frozenset[str]:
        """Return the scopes that an organization has consented to."""
        return self._consents.get((organization, client_id.lower()), frozenset())

    def consented_for(self, person: Person, client_id: str) -> frozenset[str]:
        """Return the scopes that this person need not consent to: whoever has claimed the domain has done so."""
        domain = person.email.rpartition("@")[2].lower()
        with self._lock:
            claimed = [one.name for one in self._all.values() if domain in one.domain_names]
        return frozenset().union(*(self.consented(name, client_id) for name in claimed))
