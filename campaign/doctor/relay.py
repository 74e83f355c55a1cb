"""What a first night would trip over on its way to the relay, as far as it can be learnt without mail to the roster."""

from collections.abc import Iterator
from functools import partial

from campaign.config import Config
from campaign.doctor.steps import in_turn, reading
from campaign.errors import RosterError
from campaign.given import Means, route
from campaign.mailer import Route
from campaign.mailer.providers import known
from campaign.mailer.survey import Survey
from campaign.model import Check, Grade
from campaign.previewing import preview, send_test
from campaign.roster import read_roster


def relay(config: Config, means: Means, mail_to: str | None) -> Iterator[Check]:
    """The settings, what signs in, and the relay itself; then, if asked for, one test message."""
    yield from known(config.mail, means.clock())
    secret, way = reading("secret", partial(_secret, config, means))
    yield secret
    with Survey(way or route(_without_sign_in(config), means), config.mail.sender_address, means.clock()) as survey:
        test = {"test message": lambda: _test(config, means, str(mail_to))} if mail_to else {}
        yield from in_turn({**survey.steps, **test}, before="" if way else "sign-in")


def _secret(config: Config, means: Means) -> tuple[Check, Route]:
    """Read what signs in, or fetch the token, and show nothing of it; and give the way to the relay."""
    mail, found = config.mail, 'none is needed: [mail] auth = "none"'
    way = route(config, means)
    if way.tokens:
        way.tokens()
        found = f"an access token for {mail.username} was fetched"
    elif mail.auth == "password" and mail.password:
        found = f"the password was read from {mail.password.source}"
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
