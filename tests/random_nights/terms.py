"""What a campaign's configuration promises."""

from dataclasses import dataclass
from datetime import timedelta

DAY = timedelta(days=1)
TOLERANCE = timedelta(hours=6)  # a mail goes out some time into the night


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign's configuration promises."""

    remind: tuple[int, ...]
    per_run: int
    per_day: int
    verify: int
    error_share: float
    regressions: int
    new_lacking: int
    roster_change: float
    connections: int
    admin_first: int  # days

    @property
    def spacing(self) -> timedelta:
        return timedelta(days=self.remind[0]) - TOLERANCE if self.remind else timedelta.max
