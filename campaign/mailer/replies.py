"""What a relay's reply means (RFC 5321 section 4.2, RFC 3463), and what a person should do about a refusal."""

import re
from dataclasses import dataclass
from typing import Self

from campaign.model import printable

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_ABOUT_THE_SENDER = {"5.1.7", "5.1.8"}

# (what the reply says, what that usually means, the next step); the first that fits is told.
_MEANINGS = [
    (
        r"^\d+ 5\.7\.(139|30)\b|basic authentication|SmtpClientAuthentication",
        "Microsoft 365 has switched off signing in with a password",
        "have SMTP AUTH allowed for this mailbox, or send through a relay of your own",
    ),
    (
        r"^535 5\.7\.3\b",
        "Microsoft 365 refuses the sign-in: the password is wrong, or signing in with one is switched off",
        "check [mail] username and [mail.password], or have SMTP AUTH allowed for this mailbox",
    ),
    (
        r"^534|^\d+ 5\.7\.9\b|application-specific password",
        "the relay wants an app password or OAuth instead of the account's password",
        "make an app password for this job",
    ),
    (
        r"^\d+ 5\.7\.60\b|SendAsDenied",
        "this account may not send in the name of the From address",
        "set [mail] from to the account's own address, or give the account the right Send As",
    ),
    (
        r"^\d+ 5\.7\.68\b|direct send",
        "the organisation takes no mail from its own domain without a sign-in",
        "set [mail] auth and username, and as host the provider's submission host",
    ),
    (
        r"^\d+ 5\.7\.515\b|required authentication level",
        "the recipient's provider asks for SPF, DKIM and DMARC of the sender's domain; the recipient is not at fault",
        "have them set up for the domain of [mail] from, or leave that provider out with [mail] allowed_domains",
    ),
    (
        r"^\d+ 5\.4\.5\b|quota|(sending|relay) limit|limit exceeded",
        "this account's sending limit is used up for now",
        "the next run goes on from here; lower [mail] per_day to stay below the limit",
    ),
    (
        r"^\d+ 5\.2\.2\b|mailbox (is )?full",
        "a mailbox is full; with Microsoft 365 it is the sender's own, by its Sent Items",
        "make room in the mailbox of [mail] from",
    ),
    (
        r"^530|^\d+ 5\.7\.57\b|authentication (is )?required|not authenticated",
        "the relay wants a sign-in first",
        "set [mail] auth and username, and [mail] security where it asks for STARTTLS",
    ),
    (
        r"^53[58]",
        "the relay does not take this user name and password",
        "check [mail] username and [mail.password]; they were tried once only, so that the account is not locked",
    ),
    (
        r"^\d+ 5\.7\.64\b|relay(ing)? (access )?denied|unable to relay|not permitted to relay",
        "the relay passes on no mail from this machine or account",
        "have this machine allowed on the relay, or set [mail] auth and username",
    ),
    (
        r"^552|^\d+ 5\.3\.4\b",
        "the message is larger than the relay takes",
        "make the templates smaller, or have the relay's limit raised",
    ),
    (r"^\d+ 5\.1\.[78]\b", "the relay does not take the sender's address", "check [mail] from"),
]
_UNKNOWN_MEANING = (
    "it does not blame the recipient, so it would refuse the others too",
    "ask whoever runs the relay, with this reply",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply: its code and its text, which may have several lines."""

    code: int
    text: str

    @classmethod
    def of(cls, code: int, text: bytes) -> Self:
        """The reply as smtplib hands it out; what is no UTF-8 is shown as escapes."""
        return cls(code, text.decode("utf-8", "backslashreplace"))

    @property
    def kind(self) -> int:
        """The first digit: 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    @property
    def blames_recipient(self) -> bool:
        """Whether a 5yz says that this recipient cannot be mailed: 5.1.x or 5.2.1, on every line that bears such a code."""
        found = {match[0] for line in self.text.split("\n") if (match := _ENHANCED.match(line))}
        return self.kind == 5 and bool(found) and all(map(_blames_recipient, found))  # noqa: PLR2004  # the first digit

    @property
    def meaning(self) -> tuple[str, str]:
        """What a refusal usually means, and the next step."""
        said = str(self)
        return next(((why, then) for sign, why, then in _MEANINGS if re.search(sign, said, re.IGNORECASE)), _UNKNOWN_MEANING)

    def __str__(self) -> str:
        return printable(f"{self.code} {self.text}".rstrip().replace("\n", " "))


def _blames_recipient(enhanced: str) -> bool:
    return enhanced == "5.2.1" or (enhanced.startswith("5.1.") and enhanced not in _ABOUT_THE_SENDER)
