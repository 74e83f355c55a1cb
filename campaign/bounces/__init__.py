"""Reads delivery failures from a maildir or by IMAP. A mailbox is only ever read, and nothing in it is taken on trust."""

from campaign.bounces.dsn import Failure, blames_address, read
from campaign.bounces.imap import Place
from campaign.bounces.imap import messages as by_imap
from campaign.bounces.maildir import messages as from_maildir
from campaign.bounces.wire import Login

__all__ = ["Failure", "Login", "Place", "blames_address", "by_imap", "from_maildir", "read"]
