"""Who would be cleared by one administrator's consent, by the domain of the address (pure)."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from campaign.domains import PUBLIC
from campaign.model import Standing, Status, User

_WORTH = 10  # mails that one consent must save before it is mentioned unasked


@dataclass(frozen=True, slots=True)
class Domain:
    """The users whose addresses are in one domain."""

    name: str
    users: int
    granted: int
    lacking: int
    unknown: int  # Docusign has not said
    public: bool  # a mail provider's: no organisation can claim it


@dataclass(frozen=True, slots=True)
class Advice:
    """The users by domain, most of those who lack consent first, and what one consent for the chosen domains would clear."""

    domains: tuple[Domain, ...]
    chosen: tuple[str, ...]

    @property
    def lacking(self) -> int:
        """How many lack consent, in all domains."""
        return sum(domain.lacking for domain in self.domains)

    @property
    def clears(self) -> int:
        """How many of those one consent for all chosen domains would clear."""
        return sum(domain.lacking for domain in self.domains if domain.name in self.chosen)

    @property
    def remain(self) -> int:
        """How many would lack it afterwards."""
        return self.lacking - self.clears

    @property
    def is_worth_a_word(self) -> bool:
        """Whether it would clear more than half of a number of users that matters."""
        return self.clears >= _WORTH and 2 * self.clears > self.lacking

    @property
    def sentence(self) -> str:
        """The gist."""
        if not self.chosen or not self.lacking:
            return "Nobody in a domain that an organisation could claim is known to lack consent."
        left = f"{self.remain} remain" if self.remain else "nobody remains"
        return f"One consent for {_listed(self.chosen)} would clear {self.clears} of the {self.lacking} who lack it, {left}."

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        figures = {"clears": self.clears, "lacking": self.lacking, "remain": self.remain}
        return {"consent_for": self.chosen, **figures, "domains": [asdict(domain) for domain in self.domains]}


def count(users: Iterable[User], standings: Mapping[str, Standing], wanted: Collection[str] = ()) -> Advice:
    """Count users by domain, but for the closed and the forgotten.

    One consent is considered for the `wanted` domains together, without them for the one that most lack it in.
    """
    by_domain: dict[str, list[str]] = {}
    for user in users:
        standing = standings.get(user.user_id) or Standing(user.user_id)
        if not user.closed and not standing.forgotten_at:
            by_domain.setdefault(user.domain, []).append(standing.status)
    domains = sorted((_domain(name, found) for name, found in by_domain.items()), key=lambda d: (-d.lacking, -d.users, d.name))
    own = [domain for domain in domains if not domain.public]
    chosen = [domain.name for domain in own if domain.name in wanted] if wanted else [d.name for d in own[:1] if d.lacking]
    return Advice(tuple(domains), tuple(chosen))


def _domain(name: str, found: list[str]) -> Domain:
    granted, lacking = found.count(Status.GRANTED), found.count(Status.CONSENT_REQUIRED)
    return Domain(name, len(found), granted, lacking, len(found) - granted - lacking, name in PUBLIC)


def _listed(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
