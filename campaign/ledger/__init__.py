"""What is remembered between nights, and the proof that it is the memory this campaign last wrote."""

from campaign.ledger.book import Ledger
from campaign.ledger.clock import OVERDUE, trust
from campaign.ledger.lock import RunLock
from campaign.ledger.opening import adopt, examine, hold, is_older, open_ledger, read_ledger, witness_of
from campaign.ledger.records import Bounce, Change, Event, Letter, News, Passed, Run
from campaign.ledger.scratch import Memory, Scratch

__all__ = [
    "OVERDUE",
    "Bounce",
    "Change",
    "Event",
    "Ledger",
    "Letter",
    "Memory",
    "News",
    "Passed",
    "Run",
    "RunLock",
    "Scratch",
    "adopt",
    "examine",
    "hold",
    "is_older",
    "open_ledger",
    "read_ledger",
    "trust",
    "witness_of",
]
