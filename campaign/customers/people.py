"""Customers, their administrators, and whose users are whose (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from campaign.model import Standing, User

_MARK = "customer:"  # no user id begins so


class Administrator(User):
    """Who can consent for all users of one customer: takes a user's place in plan, ledger and hand-over.

    `user_id` is made of the customer's name, which `name` has; `email` is the administrator's. Its cells are those of HEADER.
    """

    __slots__ = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """Those of the customer's users, as `User.domain` is."""
        return tuple(self.row["domains"].split())

    @property
    def fault(self) -> str:
        """Why nobody can be asked: what of the row is not fit for that."""
        return self.row["fault"]


HEADER = ("customer", "admin_email", "domains", "fault")


def customer_id(name: str) -> str:
    """What stands for a user id where a customer is meant."""
    return f"{_MARK}{' '.join(name.split()).casefold()}"


def is_customer(user_id: str) -> bool:
    """Whether a customer is meant, not a user."""
    return user_id.startswith(_MARK)


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer: its administrator, and its users in the roster, but for the closed and the forgotten."""

    administrator: Administrator
    users: tuple[User, ...]


def grouped(administrators: Sequence[Administrator], users: Iterable[User], standings: Mapping[str, Standing]) -> list[Customer]:
    """Every customer with its users. Whose domain is no customer's is in none of them."""
    whose = {domain: one.user_id for one in administrators for domain in one.domains}
    members: dict[str, list[User]] = {one.user_id: [] for one in administrators}
    for user in users if administrators else ():
        standing = standings.get(user.user_id)
        if user.domain in whose and not user.closed and not (standing and standing.forgotten_at):
            members[whose[user.domain]].append(user)
    return [Customer(one, tuple(members[one.user_id])) for one in administrators]
