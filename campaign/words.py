"""Reasons and events in the words of the help desk."""

from campaign.model import Reason

# Each reason as the end of the sentence "so many users …".
REASONS = {
    Reason.GRANTED: "have consented",
    Reason.SENT: "are mailed",
    Reason.WAITING: "were mailed and have time until the next reminder",
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

# Each kind of event as a sentence.
EVENTS = {
    "joined": "first seen in the roster",
    "address changed": "the roster shows another e-mail address",
    "consent_required": "Docusign says: consent is lacking",
    "granted": "Docusign says: consent is granted",
    "revoked": "Docusign says: consent was there and is lacking again",
    "user_not_found": "Docusign knows no user with this id",
    "no_answer": "Docusign gave no usable answer",
    "unknown": "a message may or may not have arrived; it is not sent again by itself",
    "accepted": "the relay accepted a message",
    "deferred": "the relay deferred a message; the same one is tried again on another night",
    "rejected": "the relay refused the address; it is not mailed again until the roster shows another",
    "returned": "a message came back: the address is not mailed again until the roster shows another",
    "bounced": "a message came back for a reason that does not blame the user's address",
    "suppressed": "ordered: not to be contacted",
    "unsuppressed": "ordered: may be contacted again, also if the address was refused",
    "forgotten": "ordered: forgotten; what named this user was removed, and the user is neither asked nor mailed",
    "recognised": "in the roster again, after what named this user was removed; earlier messages still count",
    "relay refused": "the relay refused to send for us; nothing is used up",
}
