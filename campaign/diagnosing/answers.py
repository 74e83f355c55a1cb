"""What a diagnosis asks Docusign, and in which order; every token is dropped as it comes."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace

from campaign.config import Config, Docusign, load
from campaign.diagnosing.causes import Evidence
from campaign.docusign import Prober, Signer, load_key
from campaign.errors import CampaignError, ConfigError, Interrupted, RosterError
from campaign.given import Means
from campaign.model import Finding, Status, address_key
from campaign.roster import read_roster

_LACKING = (Status.CONSENT_REQUIRED, Status.USER_NOT_FOUND)


def ask_all(config: Config, means: Means, signer: Signer, known: Evidence) -> Evidence:
    """Ask about the user; where that is no consent, by single scopes, about the other ids, and in the other environment.

    A diagnosis of n scopes takes at most n+1 questions about one user id. Raises what the prober raises, and Interrupted.
    """
    answer, *others = _probe(config.docusign, means, signer, [known.standing.user_id, *known.others])
    found = replace(known, answer=answer, said_of_others=tuple(others))
    if answer.status is Status.CONSENT_REQUIRED:
        found = replace(found, alone=tuple(_by_single_scopes(config.docusign, means, signer, found.standing.user_id)))
    if answer.status in _LACKING and not any(other.status is Status.GRANTED for other in others):
        found = _elsewhere(config, means, found)
    return found


def _by_single_scopes(docusign: Docusign, means: Means, signer: Signer, user_id: str) -> Iterable[tuple[str, Finding]]:
    """Each scope alone, `impersonation` first: it is part of every such question, so without it no other is worth asking.

    Source: developers.docusign.com/docs/esign-rest-api/sdks/python/auth: `impersonation` need not be in the assertion, only
    in the consent.
    """
    rest = [scope for scope in docusign.scopes if scope != "impersonation"]
    answer = _alone("impersonation", docusign, means, signer, user_id)
    yield "impersonation", answer
    if len(rest) > 1 and answer.status is Status.GRANTED:  # a single one is known to be what lacks
        yield from ((scope, _alone(scope, docusign, means, signer, user_id)) for scope in rest)


def _alone(scope: str, docusign: Docusign, means: Means, signer: Signer, user_id: str) -> Finding:
    (answer,) = _probe(docusign, means, signer.asking(scope), [user_id])
    return answer


def _elsewhere(config: Config, means: Means, found: Evidence) -> Evidence:
    """Look into the other environment, where one is configured. What fails there is a doubt, no error."""
    path = config.docusign.counterpart
    if path is None:
        return found
    try:
        other = load(path, {})
        if other.docusign.environment == config.docusign.environment:
            raise ConfigError(f"{path} is of the same environment, {other.docusign.environment}")
        signer = Signer(other.docusign, load_key(other.docusign.private_key_file))
        users = dict.fromkeys([*_ids_there(other, found.standing.email), found.standing.user_id])
        answers = _probe(other.docusign, means, signer, users)
    except Interrupted:
        raise
    except CampaignError as error:
        return replace(found, doubt=f"The other environment could not be asked: {error}.")
    return replace(found, elsewhere=tuple(answers), there=other.docusign.environment)


def _ids_there(other: Config, email: str) -> list[str]:
    """The ids that this address has in the other environment: users there have others than here."""
    try:
        return [user.user_id for user in read_roster(other).users if user.address == address_key(email)]
    except RosterError:
        return []


def _probe(docusign: Docusign, means: Means, signer: Signer, user_ids: Iterable[str]) -> list[Finding]:
    """The answers in the order of the users, whom an end that was asked for leaves without any."""
    wanted = list(user_ids)
    with closing(Prober(docusign, signer, means.clock, means.stop, back_off=means.waits.probe)) as prober:
        answers = {finding.user_id: finding for finding in prober.probe(wanted)}
    return [answers.get(user_id) or Finding(user_id, Status.UNKNOWN, "not asked any more") for user_id in wanted]
