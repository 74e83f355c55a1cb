"""What a relay's reply means (RFC 5321 section 4.2, RFC 3463): enhanced codes and known texts before the first digit."""

import re
from dataclasses import dataclass
from typing import Self

from campaign.mailer.meanings import LIMITS, REFUSALS, TOKEN_REFUSALS, UNKNOWN, Meaning, Table
from campaign.model import printable

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_ABOUT_THE_SENDER = {"5.1.7", "5.1.8", "5.1.20"}
# Postfix refuses a sender, in answer to RCPT TO and with 5.1.0, where it does not know him (reject_unlisted_sender).
_NAMES_THE_SENDER = re.compile(r"sender (address rejected|denied)|bad outbound sender", re.IGNORECASE)
# Google says 5.2.1 also of a mailbox that is only busy (support.google.com/a/answer/3726730).
_PASSES = re.compile(r"receiving e?mail (too quickly|at a rate)", re.IGNORECASE)
_ADDRESS = re.compile(r"\S+@\S+")
DONE, LATER, REFUSED = 2, 4, 5  # first digits


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
    def deferred(self) -> bool:
        """Whether the same message may be taken at another time, and that is not for our own limits."""
        passes = self.kind == LATER or (self.kind == REFUSED and bool(_PASSES.search(self._said)))
        return passes and not self.limits_us

    @property
    def limits_us(self) -> bool:
        """Whether a 4yz or 5yz is about the rate or the quota of our own account: no recipient is charged with it."""
        return self.kind in {LATER, REFUSED} and _first(LIMITS, self._said) is not None

    @property
    def blames_recipient(self) -> bool:
        """Whether a 5yz says that this recipient cannot be mailed: 5.1.x or 5.2.1, on every line that bears such a code."""
        if self.kind != REFUSED or self.deferred or self.limits_us or _NAMES_THE_SENDER.search(self._said):
            return False
        found = {match[0] for line in self.text.split("\n") if (match := _ENHANCED.match(line))}
        return bool(found) and all(map(_blames_recipient, found))

    def meaning(self, *, token: bool = False) -> Meaning:
        """What a refusal usually means; `token` where it is that of a token."""
        return _first([*LIMITS, *(TOKEN_REFUSALS if token else ()), *REFUSALS], self._said) or UNKNOWN

    @property
    def _said(self) -> str:
        """The reply as one sentence: Google breaks its lines anywhere, and begins each with the enhanced code.

        Addresses are left out: what somebody is called must not be taken for what the relay means.
        """
        first, *others = self.text.split("\n")
        said = " ".join([f"{self.code} {first}", *(_ENHANCED.sub("", line, count=1).strip() for line in others)])
        return _ADDRESS.sub("<>", said)

    def __str__(self) -> str:
        return printable(f"{self.code} {self.text}".rstrip().replace("\n", " "))


def _first(table: Table, said: str) -> Meaning | None:
    return next((meaning for sign, meaning in table if re.search(sign, said, re.IGNORECASE)), None)


def _blames_recipient(enhanced: str) -> bool:
    return enhanced == "5.2.1" or (enhanced.startswith("5.1.") and enhanced not in _ABOUT_THE_SENDER)
