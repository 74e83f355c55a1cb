"""An ISV's customers in a random life: the file that names them, and what befalls it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

NOBODYS = "example.com"  # no customer's domain


@dataclass(frozen=True, slots=True)
class Customer:
    """A row of the customers' file."""

    name: str
    admin_email: str
    domains: tuple[str, ...]

    @property
    def key(self) -> str:
        """What stands for a user id where this customer is meant."""
        return f"customer:{self.name.casefold()}"

    @property
    def is_fit(self) -> bool:
        """Whether there is an administrator who can be asked."""
        return "@" in self.admin_email

    @property
    def line(self) -> str:
        return f"{self.name},{self.admin_email},{' '.join(self.domains)}"

    def has(self, row: dict[str, str]) -> bool:
        """Whether a row of the roster is a user of this customer, who is neither closed nor without an address."""
        name, _, domain = row["email"].rpartition("@")
        return bool(name) and row["status"] != "Closed" and domain.lower() in self.domains


HEADER = "customer,admin_email,domains"
CUSTOMERS = (
    Customer("Acme Ltd", "admin@acme.example", ("acme.example", "acme.co.example")),
    Customer("Beta", "admin@beta.example", ("beta.example",)),
    Customer("Gamma GmbH", "it@elsewhere.example", ("gamma.example",)),
)
REFUSED: tuple[Callable[[list[str]], list[str]], ...] = (  # what leaves it open whose users are whose
    lambda _: [],
    lambda _: [HEADER],
    lambda lines: ["customer,admin_email,domain", *lines],
    lambda lines: [HEADER, *lines, lines[0]],
    lambda lines: [HEADER, *lines, f"Other,admin@other.example,{lines[-1].rpartition(',')[2]}"],
    lambda lines: [HEADER, *lines, "Other,admin@other.example,gmail.com"],
    lambda lines: [HEADER, *lines, "Other,admin@other.example,"],
    lambda lines: [HEADER, *lines, f"{lines[0]},one field too many"],
)


class Customers:
    """The customers of one life. Their luck is their own: a life without any is what it would be if there were none at all."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = Random(f"the customers of {seed}")  # noqa: S311  # luck, not secrecy
        self.file = folder / "customers.csv"
        self.admin_first = self.chance.choice([1, 3, 7])
        self.rows = [*CUSTOMERS]
        self.away: list[Customer] = []
        self.are_refused = False  # tonight

    def domain(self) -> str:
        """Where a user's address may be."""
        return self.chance.choice([domain for customer in CUSTOMERS for domain in customer.domains] + [NOBODYS])

    def change(self, people: Sequence[dict[str, str]]) -> None:
        """Let people come and go, and make mistakes."""
        for place, customer in enumerate(self.rows):
            if self.chance.random() < (0.2 if customer.is_fit else 0.5):
                self.rows[place] = self._changed(customer, people)
        if self.chance.random() < 0.05:
            self._hand_over_a_domain()
        if self.away and self.chance.random() < 0.3:
            self.rows.append(self.away.pop())
        elif len(self.rows) > 1 and self.chance.random() < 0.04:
            self.away.append(self.rows.pop(self.chance.randrange(len(self.rows))))

    def write(self) -> None:
        """Write the file; one that must be refused, where it is a night for that."""
        lines = [customer.line for customer in self.rows]
        lines = self.chance.choice(REFUSED)(lines) if self.are_refused else [HEADER, *lines]
        self.file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _changed(self, customer: Customer, people: Sequence[dict[str, str]]) -> Customer:
        number = self.chance.randint(1, 99)
        if not customer.is_fit or number < 40:
            return replace(customer, admin_email=f"admin.{number}@{customer.domains[0]}")
        if number < 60:
            return replace(customer, admin_email="nobody at all")
        if number < 75:
            return replace(customer, admin_email=self.chance.choice(people)["email"])
        if number < 90:
            return replace(customer, admin_email=self.chance.choice(self.rows).admin_email.replace("admin", "Admin"))
        return replace(customer, name=f"{customer.name.split(' no. ')[0]} no. {number}")

    def _hand_over_a_domain(self) -> None:
        giving, taking = self.chance.choices(range(len(self.rows)), k=2)
        if giving != taking and len(self.rows[giving].domains) > 1:
            moved, *kept = self.rows[giving].domains
            self.rows[giving] = replace(self.rows[giving], domains=tuple(kept))
            self.rows[taking] = replace(self.rows[taking], domains=(*self.rows[taking].domains, moved))
