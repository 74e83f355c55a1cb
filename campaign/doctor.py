"""What a first night would trip over on its way to the relay, one check each: what was looked at, what was found, what to do."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from campaign.config import Config
from campaign.errors import CampaignError, ExitCode, Interrupted, RosterError
from campaign.given import Means, read_roster, route
from campaign.mailer import Route
from campaign.mailer.providers import known
from campaign.mailer.survey import Survey
from campaign.model import Check, Grade
from campaign.previewing import preview, send_test

_Steps = Mapping[str, Callable[[], Check]]


def examine(config: Config, means: Means, *, mail_to: str | None = None) -> Iterator[Check]:
    """Look at one thing after the other; each is told as soon as it is known, and what needs no network comes first.

    Records nothing, and sends nothing but the one test message to `mail_to`, and that only where the relay would take it.
    Raises Interrupted once `means.stop` is set.
    """
    for check in _mail(config, means, mail_to):
        yield check
        if means.stop.is_set():
            raise Interrupted(means.stop.exit_code)


def exit_code(checks: Iterable[Check]) -> ExitCode:
    """The gravest of the codes that a night would end with; DONE where it would run. Doubts do not count."""
    return max((check.exit_code for check in checks if check.grade is Grade.BAD), default=ExitCode.DONE)


def _mail(config: Config, means: Means, mail_to: str | None) -> Iterator[Check]:
    """The relay, as far as it can be learnt without a message to anybody of the roster."""
    yield from known(config.mail, means.clock())
    secret, way = _secret(config, means)
    yield secret
    with Survey(way or route(_without_sign_in(config), means), config.mail.sender_address, means.clock()) as relay:
        test = {"test message": lambda: _test(config, means, str(mail_to))} if mail_to else {}
        yield from _in_turn({**relay.steps, **test}, before="" if way else "sign-in")


def _in_turn(steps: _Steps, before: str = "") -> Iterator[Check]:
    """Take steps that build on one another until one is BAD, or up to the one named `before`; the rest is named in one line."""
    left = list(steps)
    while left and left[0] != before:
        check = _attempt(left[0], steps[left.pop(0)])
        yield check
        if check.grade is Grade.BAD:
            break
    if left:
        yield Check("not checked", Grade.DOUBT, ", ".join(left), "put right what is bad above, then ask again: campaign doctor")


def _attempt(what: str, step: Callable[[], Check]) -> Check:
    try:
        return step()
    except CampaignError as error:
        return _bad(what, error)


def _bad(what: str, error: CampaignError) -> Check:
    """What would stop a night, with the exit code of that night."""
    return Check(what, Grade.BAD, str(error), error.advice, error.exit_code)


def _secret(config: Config, means: Means) -> tuple[Check, Route | None]:
    """Read what signs in, or fetch the token, and show nothing of it; and the way to the relay, if all could be read."""
    mail, found = config.mail, 'none is needed: [mail] auth = "none"'
    try:
        way = route(config, means)
        if way.tokens:
            way.tokens()
            found = f"an access token for {mail.username} was fetched"
        elif mail.auth == "password" and mail.password:
            found = f"the password was read from {mail.password.source}"
    except CampaignError as error:
        return _bad("secret", error), None
    return Check("secret", Grade.GOOD, found), way


def _without_sign_in(config: Config) -> Config:
    return config.model_copy(update={"mail": config.mail.model_copy(update={"auth": "none"})})


def _test(config: Config, means: Means, mail_to: str) -> Check:
    """Send the invitation of the roster's first user to somebody else, and say what to look at when it arrives."""
    users = read_roster(config).users
    if not users:
        raise RosterError(f"{config.roster.file}: no row can be used", "export it again")
    said = send_test(config, means, preview(config, users[0].user_id, "invite", means.clock()), mail_to)
    domain = config.mail.sender_address.rpartition("@")[2]
    advice = (
        "open the source of the message and look at Authentication-Results: it should say spf=pass, dkim=pass and dmarc=pass "
        f"with {domain}, the domain of From; where one is missing, have it set up for {domain} before the first night"
    )
    return Check("test message", Grade.GOOD, said, advice)
