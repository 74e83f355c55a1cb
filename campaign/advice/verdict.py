"""Whether an administrator's consent has taken effect, by what a handful of users who lacked it answer now (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from campaign.model import Finding, Status


class Effect(StrEnum):
    """What the answers say of the administrator's consent."""

    YES = "in_effect"
    NO = "not_in_effect"
    PARTLY = "partly"
    UNKNOWN = "unknown"  # no answer is neither


_SENTENCES = {
    Effect.YES: "The consent for {domain} has taken effect: all {granted} of the users asked, who lacked it, are granted now. "
    "The next night sees the others: campaign plan",
    Effect.NO: "No consent for {domain} is in effect: {lacking} of the {asked} users asked lack it as before. It counts at once, "
    "so look whether the domain is claimed, whether the scopes are those of `campaign advise`, and whether the key's account "
    "belongs to the organization.",
    Effect.PARTLY: "It is not clear: of the {asked} users asked {granted} are granted now, and {lacking} lack consent as before. "
    "These few may have consented by themselves.",
    Effect.UNKNOWN: "It is not known: Docusign gave no usable answer. Try again later.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of a domain. Nothing of it is noted in the ledger: the next night asks again."""

    domain: str
    lacking_before: int  # users of the domain, as the last run left it
    findings: Sequence[Finding]

    @property
    def effect(self) -> Effect:
        """What the answers say; those that are none say nothing."""
        granted, lacking = self._count(Status.GRANTED), self._count(Status.CONSENT_REQUIRED)
        if granted and lacking:
            return Effect.PARTLY
        return Effect.YES if granted else Effect.NO if lacking else Effect.UNKNOWN

    def as_text(self) -> str:
        """One sentence for people, and another where some answers are missing."""
        granted, lacking = self._count(Status.GRANTED), self._count(Status.CONSENT_REQUIRED)
        asked = len(self.findings)
        text = _SENTENCES[self.effect].format(domain=self.domain, granted=granted, lacking=lacking, asked=asked)
        silent = asked - granted - lacking
        return f"{text} ({silent} of {asked} gave no usable answer.)" if silent and self.effect is not Effect.UNKNOWN else text

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        answers = {"granted": self._count(Status.GRANTED), "lacking": self._count(Status.CONSENT_REQUIRED)}
        figures = {"lacking_before": self.lacking_before, "asked": len(self.findings), **answers}
        return {"domain": self.domain, "effect": self.effect, **figures}

    def _count(self, status: Status) -> int:
        return sum(finding.status is status for finding in self.findings)
