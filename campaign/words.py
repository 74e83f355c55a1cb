"""Reasons, events and exit codes in the words of the help desk."""

from campaign.errors import ExitCode
from campaign.model import Reason

# Each reason as the end of the sentence "so many users …".
REASONS = {
    Reason.GRANTED: "have consented",
    Reason.SENT: "are mailed",
    Reason.WAITING: "have time until their next message is due",
    Reason.CAP_REACHED: "have had all their messages",
    Reason.RUN_FULL: "come on another night: max_per_run is reached",
    Reason.DAY_FULL: "come on another night: per_day is reached",
    Reason.OUTSIDE_HOURS: "are due, but not at this hour",
    Reason.SUPPRESSED: "are not to be contacted",
    Reason.UNDELIVERABLE: "have an address that takes no mail",
    Reason.UNRESOLVED: "have a message that may or may not have arrived",
    Reason.USER_NOT_FOUND: "are not known to Docusign",
    Reason.NO_ANSWER: "got no usable answer from Docusign",
    Reason.CLOSED: "are closed in Docusign",
    Reason.SAME_ADDRESS: "share an address that was just mailed",
    Reason.DOMAIN_NOT_ALLOWED: "have an address outside allowed_domains",
    Reason.GUARD: "would be mailed, but a guard stops this night",
    Reason.NOT_APPROVED: "would be mailed, but this night needs an approval",
    Reason.RELAY_REFUSED: "were not reached: the relay refused",
    Reason.STOPPED: "were not reached: the run stopped before",
}

# Each reason as what it meant for one user, and what a person should do where one must act; `{user}` is for the command.
WHY = {
    Reason.GRANTED: "Consent was there, so there was nothing to ask for.",
    Reason.SENT: "A message went out to this user.",
    Reason.WAITING: "Nothing was due yet.",
    Reason.CAP_REACHED: "This user has had every message that [policy] remind_after_days allows.",
    Reason.RUN_FULL: "A message was due, but one run sends no more than max_per_run, and others had waited longer.",
    Reason.DAY_FULL: "A message was due, but one day takes no more than per_day, and others had waited longer.",
    Reason.OUTSIDE_HOURS: "A message was due, but not on that day or at that hour: [policy] days, hours and holidays.",
    Reason.SUPPRESSED: "Somebody ordered that this user is not to be contacted. To lift that: campaign unsuppress {user}",
    Reason.UNDELIVERABLE: (
        "The address takes no mail. Have it corrected in the roster; if it does work: campaign unsuppress {user}"
    ),
    Reason.UNRESOLVED: (
        "It is not known whether the last message arrived, and it is not sent again by itself. "
        "Look for it in the relay's log, then settle it by the command above."
    ),
    Reason.USER_NOT_FOUND: (
        "Docusign does not know this user id. Compare it with Docusign's user list (API Username), and [docusign] environment: "
        "demo and production have different users."
    ),
    Reason.NO_ANSWER: "Docusign gave no usable answer. That is not a lack of consent, so nobody is mailed for it.",
    Reason.CLOSED: "The roster says that this account is closed.",
    Reason.SAME_ADDRESS: "A message was due, but another user id with the same address was mailed shortly before.",
    Reason.DOMAIN_NOT_ALLOWED: "The address is outside the domains that [mail] allowed_domains lets the campaign mail.",
    Reason.INVALID_ROW: "The row in the roster cannot be used. Have it corrected there.",
    Reason.GUARD: (
        "A message was due, but the night as a whole looked wrong, so a guard stopped all mail. To see what it saw: campaign plan"
    ),
    Reason.NOT_APPROVED: (
        "A message was due, but somebody has to approve the night first. To see what it would send, and the command that "
        "approves it: campaign plan"
    ),
    Reason.RELAY_REFUSED: (
        "A message was due, but the mail relay refused to send for the campaign, or could not be reached. To see what is wrong: "
        "campaign doctor"
    ),
    Reason.STOPPED: "The run stopped before it came to this user.",
}

# Each kind of event as a sentence.
EVENTS = {
    "joined": "first seen in the roster",
    "left": "not in the roster any more, or only in a row that cannot be used",
    "back": "in the roster again",
    "address changed": "the roster shows another e-mail address",
    "consent_required": "Docusign says: consent is lacking",
    "granted": "Docusign says: consent is granted",
    "revoked": "Docusign says: consent was there and is lacking again",
    "outgrown": "Docusign says: consent is lacking for the scopes that are asked for now; it was there for fewer",
    "user_not_found": "Docusign knows no user with this id",
    "no_answer": "Docusign gave no usable answer",
    "unknown": "a message may or may not have arrived; it is not sent again by itself",
    "accepted": "the relay accepted a message",
    "deferred": "the relay deferred a message; the same one is tried again on another night",
    "rejected": "the relay refused the address; it is not mailed again until the roster shows another",
    "diagnosed": "somebody let Docusign be asked about this user (campaign diagnose)",
    "suppressed": "ordered: not to be contacted",
    "unsuppressed": "ordered: may be contacted again, also if the address was refused",
    "forgotten": "ordered: forgotten; what named this user was removed, and the user is neither asked nor mailed",
    "recognised": "in the roster again, after what named this user was removed; earlier messages still count",
    "adopted": "the ledger was accepted as it was found (campaign adopt); earlier messages may be missing here",
}

# What may have changed since last night, by kind of event, in the order in which the report tells it.
CHANGES = {
    "granted": "consent granted",
    "revoked": "consent taken back",
    "outgrown": "consent that is too little for the scopes asked now",
    "joined": "new in the roster",
    "back": "in the roster again",
    "left": "not in the roster any more",
    "address changed": "another e-mail address in the roster",
    "accepted": "mailed",
    "rejected": "address refused by the relay",
    "returned": "message came back, address takes no mail",
    "unknown": "message that may or may not have arrived",
    "user_not_found": "not known to Docusign",
    "no_answer": "no usable answer from Docusign",
}

# Each kind of event that tells of one message, as a sentence; `{to}` is " to ADDRESS", or nothing where that is not known.
MESSAGES = {
    "accepted": "{message} was sent{to}, and the relay accepted it",
    "deferred": "the relay put {message} off; the very same one is tried again on another night",
    "given up": "the relay put {message} off once more; it is not tried again",
    "rejected": "the relay refused {message}{to}: that address takes no mail, and gets none until the roster shows another",
    "unknown": "{message} went out{to}, and may or may not have arrived; it is not sent again by itself",
    "arrived": "somebody settled by hand that {message} did arrive",
    "lost": "somebody settled by hand that {message} was lost",
    "returned": "{message} came back: the address takes no mail, and gets none until the roster shows another",
    "bounced": "{message} came back, for a reason that does not blame the user's address",
    "relay refused": "the relay refused to send {message} for the campaign; nothing is used up",
}

# Each exit code that a run can note, as the end of the sentence "the run …".
ENDINGS = {
    ExitCode.DONE: "ended well",
    ExitCode.USAGE: "was stopped: configuration, roster or a template is wrong",
    ExitCode.ATTENTION: "ended well, with something new that needs a person",
    ExitCode.STOPPED: "was stopped by a guard, a missing approval or the STOP file",
    ExitCode.REFUSED: "was stopped: Docusign or the mail relay refused or could not be reached",
    ExitCode.LEDGER: "was stopped: the ledger or the report could not be written",
    ExitCode.SIGINT: "was interrupted by hand",
    ExitCode.SIGTERM: "was ended by the system",
}
