"""The organizations of the sandbox that is served for a configuration: one's own, or those of an ISV's customers."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence

from campaign.config import Config
from campaign.domains import PUBLIC
from campaign.model import User, address_key
from campaign.roster import read_customers
from campaign.sandbox.accounts import AccountServer
from campaign.sandbox.grant import Person
from campaign.sandbox.organizations import Organization


def organize(accounts: AccountServer, config: Config, users: Sequence[User]) -> list[tuple[Organization, str]]:
    """Add the organizations, with administrators who can log in; return each with its administrator's address.

    One's own has claimed the domain that most users are in, and the first canary administers it. Each customer's has claimed the
    customer's domains. Raises RosterError as a run does.
    """
    organized = [*(_of_customers(config, users) if config.customers.file else _own(config, users))]
    for organization, person in organized:
        accounts.add_person(person)
        accounts.add_organization(organization)
    return [(organization, person.email) for organization, person in organized]


def _own(config: Config, users: Sequence[User]) -> Iterator[tuple[Organization, Person]]:
    domains = Counter(user.domain for user in users if user.domain not in PUBLIC).most_common(1)
    for canary in config.docusign.canary[:1]:
        person = Person(canary, config.mail.sender_address, "A canary")
        claimed = tuple(domain for domain, _ in domains)
        yield Organization("Your organization", claimed, (canary,), (config.docusign.client_id,)), person


def _of_customers(config: Config, users: Sequence[User]) -> Iterator[tuple[Organization, Person]]:
    known = {user.address: user for user in users if not user.closed}
    for one in read_customers(config):
        if not one.fault:
            user = known.get(one.address)
            user_id = user.user_id if user else str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{address_key(one.email)}"))
            person = Person(user_id, one.email, user.name if user else f"Administrator of {one.name}")
            yield Organization(one.name, one.domains, (user_id,)), person
