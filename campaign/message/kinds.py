"""The kinds of mail: what each is for, to whom it goes, and which link it must show.

To add a kind:

1. give its step a name in `campaign.model`, as ESCALATION has one (the numbers from 1 are the messages to a user), and a line
   in KINDS here; a kind that is another reader's, as an administrator's, has a line in `kind_of`;
2. add `templates/<kind>/` with the three PARTS, which serve every language and hold no words, and `<language>/words.txt` for each
   language; what mails have in common stands in `templates/shared`. Name the files in pyproject.toml;
3. if it shows another link than the users' consent URL, give that link to the Composer as one more fact, and its name here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from campaign.customers import Administrator
from campaign.message.wire import Mailbox, one_line
from campaign.model import ESCALATION, User

PARTS = ("subject.txt", "body.txt", "body.html")
WORDS = "words.txt"
_NAME_LIMIT = 100  # nobody is called that: a longer name is left out
_LIKE_A_LINK = re.compile(r"[@/]|\w\.\w\w")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of mail. Its name is that of its folder of templates."""

    name: str
    addressee: Callable[[User], Mailbox]
    link: str = "consent_url"  # the fact that must stand in it, as a link and on a line of its own; "" = it asks for nothing


def full_name(user: User) -> str:
    """Give the user's name for the To header; nothing where the roster has none, or something that is no name."""
    name = one_line(user.name or f"{user.first_name} {user.last_name}")
    return name if len(name) <= _NAME_LIMIT else ""


def shown(name: str) -> str:
    """Give a name that the text may show; nothing where a mail client would make a link or an address of it."""
    return "" if _LIKE_A_LINK.search(name) else name


def _user(user: User) -> Mailbox:
    return Mailbox(full_name(user), user.recipient)


def _manager(user: User) -> Mailbox:
    """The manager's name is not known."""
    return Mailbox("", user.manager_email)


def _administrator(user: User) -> Mailbox:
    """The administrator's name is not known: `name` is the customer's."""
    return Mailbox("", user.recipient)


INVITE = Kind("invite", _user)
REMINDER = Kind("reminder", _user)
_BY_STEP = {1: INVITE, ESCALATION: Kind("escalation", _manager, link="")}
_ADMINISTRATOR = Kind("administrator", _administrator, link="admin_consent_url")
KINDS = {kind.name: kind for kind in (INVITE, REMINDER, *_BY_STEP.values(), _ADMINISTRATOR)}


def kind_of(user: User, step: int) -> Kind:
    """Give the kind of the mail of that step to, or about, a user."""
    if isinstance(user, Administrator):
        return _ADMINISTRATOR
    return _BY_STEP.get(step, REMINDER)
