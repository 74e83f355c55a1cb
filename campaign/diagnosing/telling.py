"""A diagnosis as a page for the help desk, and as JSON (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from campaign.config import Config
from campaign.diagnosing.causes import Cause, Evidence
from campaign.diagnosing.sentences import BELONGS_THERE, NOT_LISTED, SAID
from campaign.docusign import consent_url
from campaign.errors import ExitCode
from campaign.model import Finding, Status, stamp
from campaign.showing.page import Line, Page, Table, Tone, spaced


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found of one user at a time, and from when on may be asked `again`."""

    config: Config = field(repr=False)
    at: datetime
    again: datetime
    evidence: Evidence

    @property
    def cause(self) -> Cause:
        """The most likely cause."""
        return self.evidence.cause

    @property
    def exit_code(self) -> ExitCode:
        """What a script sees: REFUSED where Docusign gave no usable answer."""
        return ExitCode.REFUSED if self.cause is Cause.UNKNOWN else ExitCode.DONE

    @property
    def why(self) -> str:
        """The cause in sentences."""
        belongs = self.cause is Cause.OTHER_ENVIRONMENT and self.evidence.belongs_there
        if self.cause is Cause.NEVER_CONSENTED and self.evidence.is_certain:
            return NOT_LISTED
        return (BELONGS_THERE if belongs else SAID[self.cause].why).format(**self._words)

    @property
    def remedy(self) -> str:
        """What a person should do."""
        return SAID[self.cause].remedy.format(**self._words)

    @property
    def text(self) -> str:
        """What to write to the user."""
        return SAID[self.cause].text.format(**self._words)

    def as_page(self) -> Page:
        """The cause, the remedy, what was asked, and the text for the user."""
        evidence, standing = self.evidence, self.evidence.standing
        likely = "" if evidence.is_certain else "most likely: "
        zone = self.config.policy.zone
        asked = f"asked at {self.at.astimezone(zone):%H:%M}; not again for this user before {self.again.astimezone(zone):%H:%M}"
        doubts = [evidence.doubt] if evidence.doubt else []
        return spaced(
            [Line(f"{standing.email} ({standing.user_id})", Tone.HEAD)],
            [Line(f"{likely}{SAID[self.cause].title}", Tone.GOOD if self.cause is Cause.GRANTED else Tone.DOUBT)],
            [Line(self.why), *map(Line, doubts)],
            [Line(self.remedy)],
            [Table(("what", "answer", "detail"), list(self._answers()), heading=asked)],
            map(Line, self._links()),
            [Line("text for the user:", Tone.HEAD), Line(self.text)],
        )

    def as_json(self) -> dict[str, Any]:
        """The same for scripts; times are UTC."""
        standing = self.evidence.standing
        answers = [{"asked": what, "status": status, "detail": detail} for what, status, detail in self._answers()]
        return {
            "user_id": standing.user_id,
            "email": standing.email,
            "cause": self.cause,
            "certain": self.evidence.is_certain,
            "missing": self.evidence.missing,
            "why": self.why,
            "remedy": self.remedy,
            "text": self.text,
            "answers": answers,
            "doubt": self.evidence.doubt,
            "at": stamp(self.at),
            "again": stamp(self.again),
        }

    @property
    def _words(self) -> dict[str, str]:
        """What the sentences may name."""
        evidence, docusign = self.evidence, self.config.docusign
        revoked = evidence.standing.revoked_at
        return {
            "user_id": evidence.standing.user_id,
            "email": evidence.standing.email,
            "application": self.config.mail.sender_name,
            "scope": docusign.scope,
            "missing": ", ".join(evidence.missing),
            "granted": ", ".join(scope for scope, found in evidence.alone if found.status is Status.GRANTED),
            "granted_as": evidence.granted_as,
            "granted_there": evidence.granted_there,
            "there": evidence.there,
            "here": docusign.environment,
            "since": f" (found on {revoked.astimezone(self.config.policy.zone):%Y-%m-%d})" if revoked else "",
            "detail": next(
                (found.detail for _, found in self._found() if found.status is Status.UNKNOWN), "they do not fit together"
            ),
            "link": consent_url(docusign.model_copy(update={"prompt_login": True})),  # as somebody else may be logged in
            "apps": f"{docusign.server}/me/appconsent",
        }

    def _found(self) -> Iterator[tuple[str, Finding]]:
        """Each question with its answer, in the order in which they were asked."""
        evidence = self.evidence
        if evidence.answer:
            yield "all scopes", evidence.answer
        yield from ((f"{scope} alone", found) for scope, found in evidence.alone)
        yield from ((f"user id {found.user_id}", found) for found in evidence.said_of_others)
        yield from ((f"in {evidence.there}, user id {found.user_id}", found) for found in evidence.elsewhere)

    def _answers(self) -> Iterator[tuple[str, str, str]]:
        for what, found in self._found():
            trace = f"trace {found.trace}" if found.trace else ""
            yield what, str(found.status), " ".join(filter(None, (found.detail, trace)))

    def _links(self) -> Iterator[str]:
        """The link that the user was given against today's."""
        if self.evidence.link is None:
            yield "No message with a link has gone out to this user id."
            return
        at, scope = self.evidence.link
        when = f"{at.astimezone(self.config.policy.zone):%Y-%m-%d}"
        if set(scope.split()) == set(self.evidence.scope.split()):
            yield f"The link of the last message ({when}) asked for the same scopes as today's."
        else:
            asked = scope or "scopes that are not on record"
            yield f"The link of the last message ({when}) asked for {asked}; today's asks for {self.evidence.scope}."
