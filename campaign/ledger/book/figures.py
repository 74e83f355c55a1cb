"""How far a ledger has got, in numbers."""

from sqlalchemy import Connection, func, select

from campaign.ledger.book.runs import last_night
from campaign.ledger.records import Figures
from campaign.ledger.schema import slots, users
from campaign.ledger.standing import MAY_HAVE_ARRIVED


def figures(connection: Connection, campaign: str, generation: int) -> Figures:
    """How far the ledger of a campaign has got."""
    went_out = (slots.c.campaign == campaign, slots.c.outcome.in_(MAY_HAVE_ARRIVED))
    count = select(func.count())
    return Figures(
        generation=generation,
        last_run=last_night(connection, campaign),
        users=connection.execute(count.where(users.c.campaign == campaign)).scalar_one(),
        messages=connection.execute(count.where(*went_out)).scalar_one(),
    )
