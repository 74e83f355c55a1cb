"""Those who watch a run from outside: a log, figures, and a dead man's switch. Nothing here changes how a run ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from campaign.bounded import words
from campaign.config import Config
from campaign.errors import Busy, LedgerError
from campaign.ledger import hold
from campaign.model import Delivery, Slot
from campaign.monitoring import metrics, ping
from campaign.monitoring.ended import Ended
from campaign.monitoring.journal import Journal, append
from campaign.night import Night, new_run_id

_Say = Callable[[str], None]


class Watch:
    """One run under watch. Who runs it gives it its `run_id`, and puts its record into `night`."""

    def __init__(self, config: Config, clock: Callable[[], datetime], say: _Say, *, verbose: bool) -> None:
        self.night: Night | None = None
        self._config = config
        self._clock = clock
        self._say = say
        self._verbose = verbose
        self._log_file = config.monitoring.log_file
        self._started = clock()
        self.run_id = new_run_id(self._started)

    def begin(self) -> None:
        """Tell that a run begins."""
        self._log(lambda told: [told.begun(self._started)])
        self._ping("start")

    def settled(self, slot: Slot, delivery: Delivery) -> None:
        """Tell what became of a message, at once."""
        self._log(lambda told: [told.message(self._clock(), slot, delivery)])

    def end(self, error: BaseException | None) -> None:
        """Tell how it ended. A run that found the campaign taken pings and leaves log and figures to the one that holds it."""
        ended = Ended.by(error, self._config, self.night, self._started, self._clock())
        if not isinstance(error, Busy):
            self._log(lambda told: [*told.ended(ended)])
            if path := self._config.monitoring.metrics_file:
                self._safely(f"metrics_file {path}", lambda: metrics.write(path, ended))
        self._ping(str(ended.exit_code))

    def _ping(self, end: str) -> None:
        url = self._config.monitoring.healthcheck_url.get_secret_value()
        why = ping.send(url, end) if url else ""
        if why:
            self._log(lambda told: [told.ping_failed(self._clock(), end, why)])
        if why and self._verbose:
            self._complain(f"healthcheck_url: the ping /{end} did not arrive: {why}")

    def _log(self, lines: Callable[[Journal], list[str]]) -> None:
        path, told = self._log_file, Journal(self._config, self.run_id, self.night)
        if path and not self._safely(f"log_file {path}", lambda: append(path, lines(told))):
            self._log_file = None  # said once

    def _safely(self, what: str, work: Callable[[], None]) -> bool:
        """Whether it was done. If not, one sentence says why, and the run goes on."""
        try:
            work()
        except OSError as error:
            self._complain(f"{what} cannot be written: {words(error)}; the run goes on without")
        except Exception as error:  # noqa: BLE001  # a fault of who watches must not become one of who is watched
            self._complain(f"{what} was not written, which is a bug: {type(error).__name__}; the run goes on without")
        else:
            return True
        return False

    def _complain(self, text: str) -> None:
        with suppress(OSError):  # stderr may be on the disk that is full
            self._say(f"[monitoring] {text}")


@contextmanager
def watching(config: Config, clock: Callable[[], datetime], say: _Say, *, verbose: bool) -> Iterator[Watch]:
    """Watch all that happens within, as `[monitoring]` asks for it; whatever is raised there passes through unchanged.

    `say` gets a sentence for the person at the screen, about pings only if `verbose`. Raises Busy where another run holds
    the campaign: nobody is told that a run begins where none does.
    """
    watch, asked = Watch(config, clock, say, verbose=verbose), config.monitoring
    if not (asked.healthcheck_url.get_secret_value() or asked.metrics_file or asked.log_file):
        yield watch
        return
    try:
        with suppress(LedgerError), hold(config):  # an error of the disk is for the run itself to say
            pass
        watch.begin()
        yield watch
    except BaseException as error:
        watch.end(error)
        raise
    watch.end(None)
