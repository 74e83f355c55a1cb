"""Moves a campaign's ledger between a file and a database server, named by URLs as `[ledger] url` is."""

from pydantic import ValidationError

from campaign.config import Config
from campaign.config.schema import Ledger
from campaign.errors import UsageError
from campaign.ledger.moving import Moved, move


def copy(config: Config, source: str, target: str) -> Moved:
    """Copy the ledger, compare every row, and let the source be used no more. What signs in is the configuration's, for both.

    Raises UsageError for a URL that is none; else as `move` does.
    """
    return move(_at(config, source), _at(config, target))


def _at(config: Config, url: str) -> Config:
    """The same campaign with its ledger in another place."""
    try:
        ledger = Ledger.model_validate({"url": url, "ca_file": config.ledger.ca_file, "password": config.ledger.password})
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"FROM or TO: {said}", "both are written as [ledger] url is") from None
    return config.model_copy(update={"ledger": ledger})
