"""The whole plan as a CSV file."""

import csv
from pathlib import Path

from campaign.files import replaced
from campaign.model import stamp
from campaign.night import Night
from campaign.report import inert


def write_plan(done: Night, path: Path) -> None:
    """Every decision as CSV, replaced in one step. Raises OSError."""
    with replaced(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["user_id", "email", "name", "action", "reason", "next_action", "next_due", "line"])
        for d in [*done.decisions, *done.escalations]:
            due = stamp(d.next_due) if d.next_due else ""
            texts = (d.user.user_id, d.user.email, d.user.name, d.action, d.reason, d.next_action, due)
            table.writerow([*map(inert, texts), d.user.line])
