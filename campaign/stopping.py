"""How a run is asked to end: by a signal, or by the STOP file."""

import threading
from pathlib import Path

from campaign.errors import ExitCode, GuardTripped, Interrupted


class Stop(threading.Event):
    """Set when the run must end after what is in flight; it cuts every wait short."""

    exit_code = ExitCode.SIGTERM

    def ask(self, exit_code: ExitCode) -> None:
        """Ask the run to end, and remember how it was asked."""
        self.exit_code = exit_code
        self.set()


def stop_if_asked(stop: Stop, stop_file: Path) -> None:
    """Raise Interrupted after a signal, GuardTripped while the STOP file is there."""
    if stop.is_set():
        raise Interrupted(stop.exit_code)
    if stop_file.exists():
        raise GuardTripped(f"{stop_file} exists", "no mail goes out while it is there; remove it when it is no longer meant")
