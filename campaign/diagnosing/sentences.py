"""What is said of each cause: what it is, what to do, and what to write to the user."""

from dataclasses import dataclass

from campaign.diagnosing.causes import Cause


@dataclass(frozen=True, slots=True)
class Said:
    """All that is said of one cause; `{…}` are filled in by `telling`."""

    title: str
    why: str
    remedy: str
    text: str  # for the user


_OPEN = """\
Please open this page, log in as {email} and press "Accept":

{link}"""

_LOOK = """\
If you are not asked to accept anything, you are logged in to another
Docusign account: log out, and open the page again. If it still does not
work, look at {apps}, revoke {application} there, and open the page once
more."""

_NOTHING_TO_DO = "There is nothing that you need to do."
_BY_ITSELF = "The next night sees the consent by itself."
_SEPARATE = "Users, keys and consents of the two are separate."
_ANOTHER_LINK = "Send the text below to the user, and replace the other link wherever it stands by that of `campaign link`."

BELONGS_THERE = f"This user id belongs to {{there}}; {{here}} does not know it. {_SEPARATE}"
NOT_LISTED = "Docusign has no consent for this user id, and Connected Apps does not list the application."

SAID = {
    Cause.GRANTED: Said(
        "consent is there",
        "Docusign grants all that is asked for: {scope}. If the application fails all the same, it asks for other scopes, for "
        "another user id, or in the other environment.",
        f"Compare what the application asks for with [docusign] scopes, client_id and environment. {_BY_ITSELF}",
        f"Your consent to {{application}} is there. {_NOTHING_TO_DO}",
    ),
    Cause.NEVER_CONSENTED: Said(
        "never consented as this user id",
        "Docusign has no consent that counts for this user id. Most often nobody pressed Accept while logged in as this user. "
        "It would look the same from here if the user had accepted at a link that did not ask for impersonation: then, and "
        "only then, {apps} lists the application. So ask the user, and give --listed or --not-listed.",
        f"Send the text below to the user. {_BY_ITSELF}",
        f"Docusign has no consent to {{application}} on record for your account.\n\n{_OPEN}\n\n{_LOOK}",
    ),
    Cause.IMPERSONATION_MISSING: Said(
        "consented without impersonation",
        "The user has consented to something, for Connected Apps lists the application, but not to impersonation, and without "
        "that nothing else counts. Links that were made by hand, or whose spaces became %2B, do that.",
        _ANOTHER_LINK,
        "You have given {application} a part of the consent that it needs; the link that you used did not ask for the rest.\n\n"
        f"{_OPEN}\n\n{_LOOK}",
    ),
    Cause.SCOPE_ADDED: Said(
        "a scope was added after the consent",
        "Docusign grants {granted} to this user, but not {missing}, which came into [docusign] scopes later. A consent for fewer "
        "scopes is none for more.",
        "Send the text below to the user. How many others are concerned says: campaign plan",
        f"{{application}} needs more than when you gave your consent: {{missing}}.\n\n{_OPEN}\n\n{_LOOK}",
    ),
    Cause.SCOPE_MISSING: Said(
        "consented at a link that asked for fewer scopes",
        "Docusign grants {granted} to this user, but not {missing}. The user accepted at another link than that of `campaign "
        "link`.",
        _ANOTHER_LINK,
        "You have given {application} a part of the consent that it needs; the link that you used did not ask for the rest: "
        f"{{missing}}.\n\n{_OPEN}\n\n{_LOOK}",
    ),
    Cause.OTHER_USER_ID: Said(
        "consented as another user id with the same address",
        "The consent belongs to the user id {granted_as}, which has the same address. The application acts for {user_id}, and "
        "for that one there is none.",
        "Find out which of the two the application should act for. Either put {granted_as} into the roster in the place of "
        "{user_id}, or send the text below to the user.",
        "You have two Docusign accounts with the address {email}, and gave your consent with the other one. Please log out of "
        "Docusign first. Where it lets you choose, or where you have two passwords, take the account that you have not used for "
        f"this yet.\n\n{_OPEN}",
    ),
    Cause.OTHER_ENVIRONMENT: Said(
        "the other environment",
        f"The consent is in {{there}}, for the user id {{granted_there}}; the application asks in {{here}}. {_SEPARATE}",
        "Take the roster and its user ids from {here}, and send the text below to the user.",
        "You have given your consent in another environment of Docusign ({there}), not in the one where {application} works "
        f"({{here}}).\n\n{_OPEN}\n\n{_LOOK}",
    ),
    Cause.REVOKED: Said(
        "the consent was taken back",
        "Consent was there, and is lacking again{since}: the user, or an administrator, has taken it back under Connected Apps.",
        "Ask the user whether that was meant. If so: campaign suppress {user_id} --reason TEXT. If not, send the text below.",
        "Your consent to {application} was there, and has been taken back since. If you did that on purpose, tell us, and you "
        f"are not asked again. If not:\n\n{_OPEN}\n\n{_LOOK}",
    ),
    Cause.USER_NOT_FOUND: Said(
        "Docusign does not know this user id",
        "There is no active user with this id in {here}. The account may be closed or not activated yet, or the roster holds "
        "something else than the API Username.",
        "Compare the id, and the user's status, with Docusign Admin, Users (API Username); then correct the roster.",
        f"We are looking into it. {_NOTHING_TO_DO}",
    ),
    Cause.UNKNOWN: Said(
        "nothing can be said yet",
        "Docusign gave no usable answer ({detail}). That is no lack of consent.",
        "Ask again later; Docusign's status page tells of outages.",
        f"We are looking into it. {_NOTHING_TO_DO}",
    ),
}
