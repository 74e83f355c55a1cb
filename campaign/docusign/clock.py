"""The clock of a server, by the Date of its answers (RFC 9110, 6.6.1)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def ahead(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds by which our clock is ahead of the server's; None where its answer names no time that can be read."""
    try:
        return (now - parsedate_to_datetime(headers.get("Date", "")).astimezone(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
