"""Takes personal data out of the ledger: what is left of a user are counts and dates, under a mask.

A mask is the HMAC-SHA256 of a user id or an address, by a random key that stays in the ledger. Whoever is asked for by that
very id or address is recognised, and the mask alone names nobody. It hides nothing from somebody who has the whole ledger and
a list of people to try: this is pseudonymisation (GDPR, Art. 4(5)), the least that can keep a cap.
"""

import hmac
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, case, or_, select

from campaign.ledger.schema import campaigns, events, slots, users
from campaign.model import ESCALATION, Outcome, Reason, User, address_key

MARK = "mask:"  # neither a GUID nor an address begins so
_FORGOTTEN = "forgotten"  # the reason of the suppression, and the report's detail
_GONE = "(forgotten)"  # in the place of an address in somebody's words
_STILL_BARRED = "ordered before the personal data were removed"


def is_masked(text: str) -> bool:
    """Whether this is a mask, not a user id or an address."""
    return text.startswith(MARK)


@dataclass(frozen=True, slots=True)
class Masks:
    """One campaign's masks."""

    key: bytes = field(repr=False)

    def of(self, text: str) -> str:
        """The mask of a user id or of an address (as compared); a mask is its own, and nothing has none."""
        if not text or is_masked(text):
            return text
        return MARK + hmac.digest(self.key, text.encode(errors="surrogatepass"), "sha256").hex()


def masks_of(connection: Connection, campaign: str) -> Masks | None:
    """The masks of this campaign; None if nobody was ever masked."""
    key = connection.execute(select(campaigns.c.mask_key).where(campaigns.c.campaign == campaign)).scalar()
    return Masks(bytes.fromhex(key)) if key else None


def made(connection: Connection, campaign: str) -> Masks:
    """The masks of this campaign; their key is made where there is none yet."""
    if masks := masks_of(connection, campaign):
        return masks
    key = secrets.token_bytes(32)
    connection.execute(campaigns.update().where(campaigns.c.campaign == campaign).values(mask_key=key.hex()))
    return Masks(key)


def recognised(connection: Connection, campaign: str, roster: Iterable[User]) -> dict[str, str]:
    """The masks that stand in the ledger for a user id or an address of the roster, managers' too, and what they stand for."""
    masks = masks_of(connection, campaign)
    if masks is None:
        return {}
    columns = (users.c.user_id, users.c.email, users.c.undeliverable, slots.c.address)
    present = {mask for c in columns for mask in connection.scalars(select(c).where(_of(campaign, c.table), _masked(c)))}
    texts = (text for user in roster for text in (user.user_id, user.address, address_key(user.manager_email)))
    return {mask: text for text in texts if (mask := masks.of(text)) in present}


# Under the mask


def forget(connection: Connection, campaign: str, user_id: str, now: datetime) -> str:
    """Put a user under a mask, and bar the user until that is lifted; return the mask, or "" where it was so already."""
    masks = made(connection, campaign)
    if not is_masked(user_id):
        addresses = hide(connection, campaign, [user_id], masks, now)
        _blot(connection, campaign, {user_id, *addresses})
    remembered = (_of(campaign, users), users.c.user_id == masks.of(user_id), users.c.forgotten_at.is_(None))
    barred = {"suppressed": _FORGOTTEN, "suppressed_until": None, "forgotten_at": now}
    told = {"reason": Reason.SUPPRESSED, "detail": _FORGOTTEN}
    done = connection.execute(users.update().where(*remembered).values(**barred, **told))
    return masks.of(user_id) if done.rowcount else ""


def hide(connection: Connection, campaign: str, user_ids: Iterable[str], masks: Masks, now: datetime) -> set[str]:
    """Put users under their masks; return the addresses that they had, in each spelling that the ledger knew.

    What is left: which messages went out and when, and whether the user, or an address, may not be mailed. A message that was
    deferred gets another Message-ID, so that no relay's log tells whose mask it is.
    """
    spellings = set[str]()
    for user_id in user_ids:
        spellings |= _hide_user(connection, campaign, user_id, masks, now) | _hide_slots(connection, campaign, user_id, masks)
        connection.execute(events.delete().where(_of(campaign, events), events.c.user_id == user_id))
    _hide_manager(connection, campaign, {address_key(spelling) for spelling in spellings}, masks)
    return spellings


def _blot(connection: Connection, campaign: str, texts: Iterable[str]) -> None:
    """Take texts, in upper or lower case, out of the words of relays and operators that quote them."""
    forms = {unicodedata.normalize(form, text) for text in texts for form in ("NFC", "NFD")}
    quoted = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)
    for column in (users.c.detail, users.c.suppressed, slots.c.reply, events.c.detail):
        keys = column.table.primary_key.columns
        rows = connection.execute(select(column, *keys).where(_of(campaign, column.table), column != "")).all()
        for said, *key in rows:
            if quoted.search(said):
                this = (own == value for own, value in zip(keys, key, strict=True))
                connection.execute(column.table.update().where(*this).values({column: quoted.sub(_GONE, said)}))


def silent(connection: Connection, campaign: str, since: datetime) -> set[str]:
    """The users of whom nothing was seen or done since then, but for those under a mask. To be missed is not to be seen."""
    told = select(events.c.user_id).where(_of(campaign, events), events.c.at >= since, events.c.what != "left")
    mailed = select(slots.c.user_id).where(_of(campaign, slots), slots.c.tried_at >= since)
    unasked = or_(users.c.last_probed.is_(None), users.c.last_probed < since)
    quiet = (users.c.user_id.not_in(told), users.c.user_id.not_in(mailed), users.c.joined_at < since, unasked)
    return set(connection.scalars(select(users.c.user_id).where(_of(campaign, users), ~_masked(users.c.user_id), *quiet)))


def _hide_user(connection: Connection, campaign: str, user_id: str, masks: Masks, now: datetime) -> set[str]:
    this = (_of(campaign, users), users.c.user_id == user_id)
    row = connection.execute(select(users).where(*this)).mappings().one()
    texts = dict.fromkeys(("status", "found", "detail", "action", "reason", "granted_scope"), "")
    dates = dict.fromkeys(("last_probed", "granted_at", "verified_at", "lacking_since", "revoked_at"))
    kept = {
        "joined_at": now,
        "suppressed": _STILL_BARRED if row["suppressed"] else "",
        "undeliverable": masks.of(row["undeliverable"]),
    }
    own = {"user_id": masks.of(user_id), "email": masks.of(address_key(row["email"]))}
    connection.execute(users.update().where(*this).values(**texts, **dates, **kept, **own))
    return {row["email"], row["undeliverable"]} - {""}


def _hide_slots(connection: Connection, campaign: str, user_id: str, masks: Masks) -> set[str]:
    spellings = set[str]()
    for row in connection.execute(select(slots).where(_of(campaign, slots), slots.c.user_id == user_id)).mappings().all():
        _change_slot(connection, row, user_id=masks.of(user_id), message_id=_another(row["message_id"]), **_emptied(row, masks))
        if row["step"] != ESCALATION:  # a manager's address is another person's
            spellings |= {text for text in (row["recipient"], row["address"]) if text and not is_masked(text)}
    return spellings


def _hide_manager(connection: Connection, campaign: str, addresses: set[str], masks: Masks) -> None:
    """Take addresses out of messages about others, which went to them as a manager's."""
    told = select(slots).where(_of(campaign, slots), slots.c.step == ESCALATION)
    for row in connection.execute(told).mappings().all():
        if row["address"] in addresses:
            _change_slot(connection, row, **_emptied(row, masks))


def _emptied(row: RowMapping, masks: Masks) -> dict[str, object]:
    outcome = Outcome.UNKNOWN if row["outcome"] == Outcome.SENDING else row["outcome"]
    return {"recipient": "", "address": masks.of(row["address"]), "sha256": "", "reply": "", "outcome": outcome}


def _change_slot(connection: Connection, row: RowMapping, **values: object) -> None:
    this = (column == row[column.name] for column in slots.primary_key.columns)
    connection.execute(slots.update().where(*this).values(**values))


def _another(message_id: str) -> str:
    return f"<{secrets.token_hex(16)}@{message_id.rpartition('@')[2]}"


# And back


def take_up(connection: Connection, campaign: str, roster: Iterable[User]) -> list[str]:
    """Let users of the roster go on where a mask has kept their place, unless they were forgotten; return their ids."""
    masks = masks_of(connection, campaign)
    if masks is None:
        return []
    waiting = select(users.c.user_id).where(_of(campaign, users), _masked(users.c.user_id), users.c.forgotten_at.is_(None))
    present = set(connection.scalars(waiting))
    back = [user for user in roster if present and masks.of(user.user_id) in present]
    for user in back:
        _uncover(connection, campaign, user, masks)
    return [user.user_id for user in back]


def _uncover(connection: Connection, campaign: str, user: User, masks: Masks) -> None:
    """Write the user's id and address again; the addresses of earlier messages stay masked, and are recognised."""
    mask, address = masks.of(user.user_id), masks.of(user.address)
    is_refused = users.c.undeliverable == address
    current = {"email": user.email, "undeliverable": case((is_refused, user.address), else_=""), "detail": "", "reason": ""}
    for table, values in ((users, current), (slots, {}), (events, {})):
        this = (_of(campaign, table), table.c.user_id == mask)
        connection.execute(table.update().where(*this).values(user_id=user.user_id, **values))


def _of(campaign: str, table: Any) -> Any:  # noqa: ANN401  # SQLAlchemy's own expression types
    return table.c.campaign == campaign


def _masked(column: Any) -> Any:  # noqa: ANN401
    return column.startswith(MARK)
