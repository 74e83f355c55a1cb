"""From what was asked and what is remembered to the most likely cause (pure)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from campaign.model import Finding, Standing, Status, beyond


class Cause(StrEnum):
    """Why consent is lacking, for scripts."""

    GRANTED = "granted"  # it is not
    NEVER_CONSENTED = "never_consented"
    IMPERSONATION_MISSING = "impersonation_missing"
    SCOPE_ADDED = "scope_added"
    SCOPE_MISSING = "scope_missing"
    OTHER_USER_ID = "other_user_id"
    OTHER_ENVIRONMENT = "other_environment"
    REVOKED = "revoked"
    USER_NOT_FOUND = "user_not_found"
    UNKNOWN = "unknown"  # no answer is no evidence


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one cause or another. Answers are empty where nobody was asked."""

    standing: Standing
    scope: str  # that is asked for today
    others: tuple[str, ...]  # user ids with the same address
    link: tuple[datetime, str] | None  # of the last message: when, and the scopes that it asked for
    listed: bool | None  # whether the user sees the application under Connected Apps
    answer: Finding | None = None  # for all scopes together
    alone: tuple[tuple[str, Finding], ...] = ()  # for single ones
    said_of_others: tuple[Finding, ...] = ()
    elsewhere: tuple[Finding, ...] = ()  # in the other environment, `there`
    there: str = ""
    doubt: str = ""  # what could not be looked at

    @property
    def missing(self) -> list[str]:
        """The scopes that are known to lack, where `impersonation` does not."""
        status = {scope: finding.status for scope, finding in self.alone}
        if status.get("impersonation") is not Status.GRANTED:
            return []
        rest = [scope for scope in self.scope.split() if scope != "impersonation"]
        return rest if len(rest) == 1 else [scope for scope in rest if status.get(scope) is Status.CONSENT_REQUIRED]

    @property
    def added(self) -> list[str]:
        """Those of the missing ones that the last link, or the consent that was there, did not know yet."""
        known = (self.link[1] if self.link else "", self.standing.granted_scope)
        return [scope for scope in self.missing if any(beyond(scope, before) for before in known)]

    @property
    def granted_as(self) -> str:
        """Another user id with this address that has consented; "" if none has."""
        return next((finding.user_id for finding in self.said_of_others if finding.status is Status.GRANTED), "")

    @property
    def granted_there(self) -> str:
        """The user id that has consented in the other environment; "" if none has."""
        return next((finding.user_id for finding in self.elsewhere if finding.status is Status.GRANTED), "")

    @property
    def belongs_there(self) -> bool:
        """Whether the other environment knows this very user id, as this one does not."""
        known = {finding.user_id for finding in self.elsewhere if finding.status in {Status.GRANTED, Status.CONSENT_REQUIRED}}
        return self.standing.user_id in known

    @property
    def cause(self) -> Cause:
        """The most likely cause."""
        match self.answer.status if self.answer else Status.UNKNOWN:
            case Status.GRANTED:
                return Cause.GRANTED
            case Status.CONSENT_REQUIRED:
                return self._of_lacking()
            case Status.USER_NOT_FOUND:
                return self._of_not_found()
        return Cause.UNKNOWN

    @property
    def is_certain(self) -> bool:
        """Whether nothing else that can be seen from outside fits as well."""
        return self.cause is not Cause.NEVER_CONSENTED or self.listed is False

    def _of_not_found(self) -> Cause:
        if self.belongs_there or self.granted_there:
            return Cause.OTHER_ENVIRONMENT
        return Cause.OTHER_USER_ID if self.granted_as else Cause.USER_NOT_FOUND

    def _of_lacking(self) -> Cause:
        """`impersonation` tells whether there is any consent that counts; which of its causes it is tells the history."""
        if self.missing:
            return Cause.SCOPE_ADDED if self.added else Cause.SCOPE_MISSING
        if any(finding.status is not Status.CONSENT_REQUIRED for _, finding in self.alone):
            return Cause.UNKNOWN
        was_there = self.standing.revoked_at or self.standing.status == Status.GRANTED or self.standing.granted_scope
        causes = {
            Cause.IMPERSONATION_MISSING: self.listed,
            Cause.REVOKED: was_there,
            Cause.OTHER_USER_ID: self.granted_as,
            Cause.OTHER_ENVIRONMENT: self.granted_there,
        }
        return next((cause for cause, speaks_for_it in causes.items() if speaks_for_it), Cause.NEVER_CONSENTED)
