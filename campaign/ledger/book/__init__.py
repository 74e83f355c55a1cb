"""What is remembered between nights, chapter by chapter. Every public method is one transaction, committed when it returns."""

from campaign.ledger.book.figures import figures
from campaign.ledger.book.history import History
from campaign.ledger.book.messages import Messages
from campaign.ledger.book.orders import Orders
from campaign.ledger.book.people import People
from campaign.ledger.book.removal import Removal
from campaign.ledger.book.returns import Returns
from campaign.ledger.book.runs import Runs

__all__ = ["Ledger", "figures"]


class Ledger(Runs, People, Messages, Returns, History, Orders, Removal):
    """One campaign's memory. Every method raises LedgerError when the disk or the database fails; then nothing was written."""
