"""What an administrator's consent would clear, what it needs and how it is given, ready to paste.

Source: developers.docusign.com/platform/auth/consent/obtaining-admin-consent-internal, and the article on claiming domains.
"""

from collections.abc import Iterator

from campaign.advice import Advised
from campaign.advice.counting import Domain
from campaign.config import Docusign
from campaign.docusign import admin_consent_url
from campaign.showing.page import Line, Page, Table, Tone, spaced

_SHOWN = 20  # domains


def page(found: Advised) -> Page:
    """The domains in figures, the gist, and the steps."""
    advice = found.advice
    if found.asked is None:
        early = "Who lacks consent is known after the first run, which asks, and mails nobody before it is approved: campaign run"
        return spaced([_table(advice.domains)], [Line(early)])
    steps = _external(found.config.docusign) if found.config.customers.file else _internal(found)
    return spaced(
        [Line(f"{found.config.name}, as the run of {found.asked:%Y-%m-%d %H:%M} UTC left it", Tone.HEAD)],
        [_table(advice.domains)],
        [Line(advice.sentence, Tone.GOOD if advice.clears else Tone.PLAIN)],
        steps if advice.clears else (),
    )


def _table(domains: tuple[Domain, ...]) -> Table:
    left_out = len(domains) - _SHOWN
    more = f"and {left_out} more: campaign advise --json has them all" if left_out > 0 else ""
    return Table(("domain", "users", "granted", "lacking", "not known", ""), [*map(_row, domains[:_SHOWN])], more=more)


def _row(domain: Domain) -> tuple[str, ...]:
    figures = (f"{domain.users} users", f"{domain.granted} granted", f"{domain.lacking} lacking", f"{domain.unknown} not known")
    return domain.name, *figures, "a mail provider's: nobody can claim it" if domain.public else ""


def _internal(found: Advised) -> Iterator[Line]:
    docusign, domains = found.config.docusign, found.advice.chosen
    where = "of the demo environment" if docusign.environment == "demo" else "of production, not of the demo environment"
    yield Line("It needs, and nobody can see from outside whether it is so:", Tone.HEAD)
    yield Line("  - an organization of yours in Docusign, under a plan that has Docusign Admin;")
    yield Line(f"  - {', '.join(domains)} claimed by this organization, and verified by a DNS record. A domain belongs to one")
    yield Line("    organization; users with other addresses need their own consent, also in the same account;")
    yield Line("  - the account in which the integration key was made, linked to this organization;")
    yield Line("  - an administrator of the organization: to be one of the account alone is not enough.")
    yield Line()
    yield Line(f"Then, in Docusign Admin {where}:", Tone.HEAD)
    yield Line("  1. Connected Apps, Authorize Application")
    yield Line("  2. choose the application with the integration key")
    yield Line(f"     {docusign.client_id}", Tone.COMMAND)
    yield Line("  3. fill in the scopes, separated by spaces")
    yield Line(f"     {docusign.scope}", Tone.COMMAND)
    yield Line("  4. Add")
    yield Line("  5. see whether it has taken effect, before a night mails anybody")
    yield Line(f"     campaign advise --verify {domains[0]}", Tone.COMMAND)


def _external(docusign: Docusign) -> Iterator[Line]:
    yield Line(
        "This campaign has [customers], and their organizations are not yours: each customer's administrator opens this link."
    )
    yield Line(f"     {admin_consent_url(docusign)}", Tone.COMMAND)
