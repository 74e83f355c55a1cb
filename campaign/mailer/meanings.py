"""What the replies of well-known relays mean beyond their first digit, and what a person should do then."""

from dataclasses import dataclass

from campaign.errors import DomainRefused, RelayBusy, RelayRefused

# The Exchange team's notice of 27 January 2026: techcommunity.microsoft.com, "Updated Exchange Online SMTP AUTH Basic
# Authentication Deprecation Timeline". learn.microsoft.com/exchange/mail-flow-best-practices/high-volume-mails-m365
MICROSOFT_ADVICE = (
    "Microsoft switches signing in with a password off by default at the end of December 2026; administrators may switch it on "
    "again until it is removed for good, and that date will be announced in the second half of 2027. Organisations that join "
    'after December 2026 have it off from the start. There are three ways out: [mail] auth = "microsoft" (OAuth); '
    "Microsoft's High Volume Email, for recipients inside the organisation; a relay of your own or a connector"
)
# support.google.com/a/answer/14114704 and /2956491
GOOGLE_ADVICE = (
    "Google takes an account's own password from no program since May 2025. There are three ways out: "
    '[mail] auth = "google" (OAuth by a service account); an app password, for which the account needs 2-Step Verification; '
    "smtp-relay.gmail.com, which knows this machine by its address"
)
_ALLOW_SMTP_AUTH = "have SMTP AUTH allowed for this mailbox: Set-CASMailbox -SmtpClientAuthenticationDisabled $false"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a refusal usually means, the next step, and the error that says so."""

    why: str
    then: str
    error: type[RelayRefused] = RelayRefused
    perhaps_recipient: bool = False  # it may be this one recipient after all


Table = list[tuple[str, Meaning]]  # (what the reply says, what that means); the first that fits counts

_QUOTA = Meaning(
    "this account's sending limit is used up for now",
    "the next run goes on from here; lower [mail] per_day to stay below the limit",
)

# Microsoft's "recipient thread limit" is the recipient's mailbox, and Google's "receiving mail too quickly" the recipient.
# Postfix limits by anvil(8). RFC 3463, X.4.5: the mail system is congested. Too many recipients, with one a message, are
# those of several messages.
_TOO_FAST = (
    r"^4\d\d 4\.4\.5\b|^421 4\.7\.0 try again later, closing connection|server (is )?busy|peak smtp relay limit"
    r"|concurrent connections? limit|sender thread limit|too much mail from|rate ?limit|throttl"
    r"|too many (concurrent |new )?((smtp )?connections|tls sessions|recipients|auth commands|login attempts)"
    r"|(maximum sending|excessive message) rate|(hourly|per (second|minute)) (\w+ )?(limit|quota)"
)

# About our own account or machine, as a 4yz too: no recipient is ever charged with it.
LIMITS: Table = [
    (
        # "This usually indicates a Denial of Service (DoS) for the SMTP relay at the HELO stage": also how Google's relay
        # turns away who greets it by a name that it cannot place: support.google.com/a/answer/3726730 and /6140680.
        r"^421 4\.7\.0 try again later, closing connection\. \((EHLO|HELO)\)",
        Meaning(
            "the relay wants fewer connections at a time, or does not know the name by which this machine greets it",
            "set [mail] helo_name to a full name in your own domain, and see what else uses this address; the next run goes on",
            RelayBusy,
        ),
    ),
    # Google: support.google.com/a/answer/3726730. Amazon: docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html.
    # Microsoft: learn.microsoft.com/exchange/mail-flow-best-practices/smtp-submission-improvements, and 5.1.90, 5.7.232, 5.7.233
    # of "Email non-delivery reports and SMTP errors in Exchange Online".
    (r"^\d+ 5\.(4\.5|1\.90|7\.23[23])\b|SubmissionQuotaExceeded|\bdaily\b.{0,60}\b(limit|quota)\b", _QUOTA),
    (
        r"unusual rate of (unsolicited )?(e?mail|traffic)",
        Meaning(
            "the relay takes this account or machine for a source of unsolicited mail",
            "have SPF, DKIM and DMARC of the domain of [mail] from checked, and lower [mail] per_minute",
        ),
    ),
    (
        _TOO_FAST,
        Meaning(
            "the relay wants fewer messages or connections at a time",
            "lower [mail] per_minute or connections, and see what else uses this account; the next run goes on from here",
            RelayBusy,
        ),
    ),
    (r"\b(sending|relay|submission) (limit|quota)\b", _QUOTA),
]

# What Exchange Online says behind "535 5.7.139 Authentication unsuccessful, " where SMTP AUTH itself is allowed:
# learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/authenticated-client-smtp-submission, and the sign-in logs.
_CREDENTIALS = r"^\d+ 5\.7\.139\b.*credentials were incorrect"
_BY_POLICY = r"^\d+ 5\.7\.139\b.*(security defaults|did not meet the criteria|conditional access|locked)"
_POLICY = Meaning(
    "a policy of the organisation keeps this account from signing in by SMTP: security defaults or Conditional Access",
    "Entra admin center > Monitoring & health > Sign-in logs: see which policy it was, and have it except this account; "
    f"or {_ALLOW_SMTP_AUTH}",
)

# Of a sign-in by token.
TOKEN_REFUSALS: Table = [
    (_BY_POLICY, _POLICY),
    (
        r"^\d+ 5\.7\.139\b(?!.*credentials)|SmtpClientAuthentication",
        Meaning("Microsoft 365 has SMTP AUTH switched off, also for OAuth", _ALLOW_SMTP_AUTH),
    ),
    (
        rf"^535 5\.7\.3\b|{_CREDENTIALS}",
        Meaning(
            "Microsoft 365 does not let this app send as this mailbox",
            "usually the service principal in Exchange was made with the object id of the app registration; New-ServicePrincipal "
            "wants that of the Enterprise application. Else the app has no FullAccess to the mailbox (Add-MailboxPermission), or "
            f"SMTP AUTH is off: {_ALLOW_SMTP_AUTH}",
        ),
    ),
    (
        r"^535\b|^334\b",
        Meaning(
            "the relay does not take this token for this mailbox",
            "check [mail] username, and what the app may do; with Google, domain-wide delegation must give the service account's "
            "client id the scope https://mail.google.com/",
        ),
    ),
]

# Those 5yz that blame us.
REFUSALS: Table = [
    (
        r"^\d+ 5\.7\.515\b|required authentication level|sender is unauthenticated",
        Meaning(
            "the recipient's provider asks for SPF, DKIM and DMARC of the sender's domain; the recipient is not at fault",
            "have them set up for the domain of [mail] from, or leave that provider out with [mail] allowed_domains",
            DomainRefused,
        ),
    ),
    (_BY_POLICY, Meaning(_POLICY.why, f"{_POLICY.then}. {MICROSOFT_ADVICE}")),
    (
        r"^\d+ 5\.7\.(139\b(?!.*credentials)|30\b)|basic authentication|SmtpClientAuthentication",
        Meaning("Microsoft 365 has switched off signing in with a password here", MICROSOFT_ADVICE),
    ),
    (
        rf"^535 5\.7\.3\b|{_CREDENTIALS}",
        Meaning(
            "Microsoft 365 refuses the sign-in: the password is wrong, or signing in with one is switched off",
            f"check [mail] username and [mail.password]; they were tried once only. If they are right: {MICROSOFT_ADVICE}",
        ),
    ),
    (
        r"^534|^\d+ 5\.7\.9\b|application-specific password",
        Meaning("the relay wants an app password or OAuth instead of the account's password", GOOGLE_ADVICE),
    ),
    (
        r"^535 5\.7\.8\b.*(gsmtp|google)|^535 5\.7\.8 username and password not accepted",
        Meaning(
            "Google does not take this user name and password",
            f"check [mail] username and [mail.password]; they were tried once only. {GOOGLE_ADVICE}",
        ),
    ),
    (
        r"^53[58]",
        Meaning(
            "the relay does not take this user name and password",
            "check [mail] username and [mail.password]; they were tried once only, so that the account is not locked",
        ),
    ),
    (
        r"^\d+ 5\.7\.60\b|SendAsDenied",
        Meaning(
            "this account may not send in the name of the From address",
            "set [mail] from to the account's own address, or give the account the right Send As",
        ),
    ),
    (
        r"^\d+ 5\.7\.68\b|direct send",
        Meaning(
            "the organisation takes no mail from its own domain without a sign-in",
            "set [mail] auth and username, and as host the provider's submission host",
        ),
    ),
    (
        r"^\d+ 5\.2\.2\b|mailbox (is )?full",
        Meaning(
            "a mailbox is full; with Microsoft 365 it is the sender's own, by its Sent Items",
            "make room in the mailbox of [mail] from, and let a retention policy empty its Sent Items",
            perhaps_recipient=True,
        ),
    ),
    (
        r"email address is not verified",
        Meaning(
            "Amazon SES does not know this sender; in its sandbox it must know the recipient too",
            "have the domain of [mail] from verified in SES, in this region, and ask for production access",
        ),
    ),
    (
        # docs.aws.amazon.com/ses/latest/dg/troubleshoot-error-messages.html and /sending-authorization-policy-examples.html
        r"sending (is )?(paused|suspended|disabled)|account is (suspended|disabled)",
        Meaning(
            "the provider has stopped this account's sending",
            "look into the provider's console (Amazon SES: Reputation metrics) and its mails to the account's owner",
        ),
    ),
    (
        r"not authorized to (perform|send)",
        Meaning(
            "the account that signed in may not send as the From address",
            "with Amazon SES let the policy of the SMTP user, or of the identity, allow ses:SendRawEmail for it",
        ),
    ),
    (
        # learn.microsoft.com/troubleshoot/exchange/email-delivery/ndr/fix-error-code-5-7-700-through-5-7-750
        r"^\d+ 5\.7\.(50[1-3]|70[058]|750)\b|spam abuse detected|tenant has exceeded threshold",
        Meaning(
            "Microsoft 365 has blocked this account, organisation or address from sending, as a source of unsolicited mail",
            "Microsoft Defender portal > Email & collaboration > Review > Restricted entities; else ask Microsoft's support",
        ),
    ),
    (
        # support.google.com/a/answer/6140680
        r"invalid credentials for relay|mail relay denied",
        Meaning(
            "Google's relay does not know this machine's address, or not as one of the sender's domain",
            "Google Admin console > Apps > Gmail > Routing > SMTP relay service: allow this machine's public address; "
            "or set [mail] auth and username, or helo_name to a name in that domain",
        ),
    ),
    (
        r"^530|^\d+ 5\.7\.57\b|authentication (is )?required|not authenticated",
        Meaning(
            "the relay wants a sign-in first",
            "set [mail] auth and username, and [mail] security where it asks for STARTTLS",
        ),
    ),
    (
        r"^\d+ 5\.7\.64\b|relay(ing)? (access )?denied|unable to relay|not permitted to relay",
        Meaning(
            "the relay passes on no mail from this machine or account",
            "have this machine allowed on the relay, or set [mail] auth and username",
            perhaps_recipient=True,
        ),
    ),
    (
        r"^552|^\d+ 5\.3\.4\b",
        Meaning(
            "the message is larger than the relay takes",
            "make the templates smaller, or have the relay's limit raised",
        ),
    ),
    (
        r"^\d+ 5\.1\.([78]|20)\b|sender address rejected|sender denied|bad outbound sender",
        Meaning("the relay does not take the sender's address", "check [mail] from"),
    ),
]
UNKNOWN = Meaning(
    "it does not blame the recipient, so it would refuse the others too",
    "ask whoever runs the relay, with this reply",
    perhaps_recipient=True,
)
