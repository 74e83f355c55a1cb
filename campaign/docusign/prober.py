"""Asks Docusign for each user whether consent is there: a JWT grant whose token is dropped at once."""

import queue
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TypeAlias

from requests.structures import CaseInsensitiveDict

from campaign.config import Docusign
from campaign.docusign.answers import Answer, interpret
from campaign.docusign.assertion import Signer
from campaign.docusign.breaker import Breaker, State
from campaign.docusign.clock import ahead
from campaign.docusign.wire import TokenEndpoint
from campaign.errors import CampaignError, DocusignRefused, DocusignUnreachable
from campaign.https import BadCertificate, NoAnswer
from campaign.model import Finding, Status
from campaign.pace import Pace

_THROTTLED = 60.0  # seconds that everybody pauses after a 429 that names no time
_LONGEST_PAUSE = 300.0  # seconds; when Docusign asks for more, the night is over
_CLOCK_SLACK = 120  # seconds between our clock and Docusign's worth mentioning
_MOMENT = 0.1  # seconds within which `stop` is noticed by those who wait

_Result: TypeAlias = Finding | BaseException | None  # None: one worker has ended


def _unwatched(_obstacle: str) -> None:
    """The waiting that nobody watches."""


class Prober:
    """Probes users over `concurrency` connections, paced, each answer bounded in time and size.

    Nothing of the environment is used: no proxy, no .netrc, no redirect, no cookie. A token lives no longer than its answer.
    `back_off` are the seconds before each further attempt for a user whose answer may be transient, `pauses` those for which
    nobody is asked when users in a row get none; without any, that ends the run at once. `waiting` is told again and again,
    in words, what is waited for while no answer comes.
    """

    def __init__(  # noqa: PLR0913  # how long it waits has its defaults
        self,
        config: Docusign,
        signer: Signer,
        clock: Callable[[], datetime],
        stop: threading.Event,
        *,
        back_off: tuple[float, ...] = (),
        pauses: tuple[float, ...] = (),
        waiting: Callable[[str], None] = _unwatched,
    ) -> None:
        self._config = config
        self._waiting = waiting
        self._signer = signer
        self._clock = clock
        self._stop = stop  # set from outside: finish what is in flight, then end
        self._halt = threading.Event()  # set from inside: `stop` was seen, or one answer ended it for all; cuts waits short
        self._back_off = back_off
        self._breaker = Breaker(pauses)
        self._pace = Pace((config.probe_burst, 30), (config.probes_per_hour, 3600))
        self._endpoint = TokenEndpoint(config)

    def probe(self, user_ids: Iterable[str]) -> Generator[Finding, None, None]:
        """Yield a Finding for each user, in the order of the answers; those without one come last.

        Who got no answer because nobody did is asked again at the end. Users that are not reached before `stop` is set
        get no Finding. Raises DocusignRefused at the first answer that would be the same for everybody, DocusignUnreachable
        when answers keep failing; all findings until then were yielded.
        """
        unanswered: dict[str, Finding] = {}
        try:
            todo = list(user_ids)
            while todo:
                yield from self._round(todo, unanswered)
                todo = self._breaker.missed()
        except CampaignError:
            yield from unanswered.values()
            raise
        yield from unanswered.values()

    def close(self) -> None:
        """Close all connections."""
        self._endpoint.close()

    def _round(self, users: list[str], unanswered: dict[str, Finding]) -> Iterator[Finding]:
        """Ask each user; yield the findings that are answers, and leave the others in `unanswered`."""
        todo = iter(users)
        done: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        lock = threading.Lock()
        workers = [
            threading.Thread(target=self._work, args=(todo, lock, done), daemon=True)
            for _ in range(min(self._config.concurrency, len(users)))
        ]
        self._halt.clear()
        for worker in workers:
            worker.start()
        try:
            for finding in self._gather(done, len(workers)):
                unanswered.pop(finding.user_id, None)
                if finding.status is Status.UNKNOWN:
                    unanswered[finding.user_id] = finding
                else:
                    yield finding
        finally:
            self._halt.set()
            for worker in workers:
                worker.join()

    def _gather(self, done: queue.SimpleQueue[_Result], workers: int) -> Iterator[Finding]:
        failed: BaseException | None = None
        while workers:
            result = self._next(done)
            if result is None:
                workers -= 1
            elif isinstance(result, BaseException):
                failed = failed or result
            else:
                yield result
        if failed:
            raise failed

    def _next(self, done: queue.SimpleQueue[_Result]) -> _Result:
        """The next result. Nobody waits on `stop` itself, so that one event ends all waits; here it is passed on."""
        while True:
            if self._stop.is_set():
                self._halt.set()
            with suppress(queue.Empty):
                return done.get(timeout=_MOMENT)
            self._waiting(self._obstacle())

    def _obstacle(self) -> str:
        """What the next answer waits for, in words."""
        if self._breaker.state is not State.CLOSED:
            return "Docusign gives no usable answers: nobody is asked for a while"
        left = self._pace.left()
        return f"Docusign's limits: {left:.0f} s" if left >= 1 else "Docusign's answers"

    def _work(self, todo: Iterator[str], lock: threading.Lock, done: queue.SimpleQueue[_Result]) -> None:
        try:
            while not (self._halt.is_set() or self._stop.is_set()):
                with lock:
                    user_id = next(todo, None)
                finding = None if user_id is None else self._ask(user_id)
                if finding is None:
                    break
                done.put(finding)
                self._give_up_if_spent()
        except BaseException as error:  # noqa: BLE001  # it is raised again where somebody can see it, a bug too
            self._halt.set()
            done.put(error)
        finally:
            done.put(None)

    def _give_up_if_spent(self) -> None:
        if self._breaker.state is State.SPENT:
            raise self._unreachable(self._breaker.figures)

    def _ask(self, user_id: str) -> Finding | None:
        """One user's finding, after several attempts if need be; None when the run ends before the first."""
        finding = None
        for pause in (*self._back_off, None):
            if not self._is_turn_of(user_id):
                break
            finding = self._attempt(user_id)
            if finding.status is not Status.UNKNOWN or pause is None or self._breaker.state is not State.CLOSED:
                self._breaker.note(finding)
                break
            self._halt.wait(pause)
        return finding

    def _is_turn_of(self, user_id: str) -> bool:
        """Wait until this user may be asked. False, at once, when the run ends."""
        while self._breaker.wait(user_id, self._halt) and self._pace.wait(self._halt):
            if not self._breaker.take(user_id):  # it may have opened while the pace let nobody go on
                return True
        return False

    def _attempt(self, user_id: str) -> Finding:
        """One request. If its answer says so, everybody pauses."""
        try:
            reply = self._endpoint.post(self._signer.assertion(user_id, self._clock()))
        except BadCertificate as error:
            advice = "nothing was sent; a network that inspects TLS needs its authority's certificate in [docusign] ca_file"
            raise self._unreachable(f"its TLS certificate cannot be verified: {error}", advice) from error
        except NoAnswer as error:
            return Finding(user_id, Status.UNKNOWN, str(error))
        answer, trace = interpret(reply.code, reply.body), _trace(reply.headers)
        if answer.refusal:
            raise self._refused(answer, reply.headers, trace)
        if reply.code == 429:  # noqa: PLR2004  # Too Many Requests
            self._pace.hold(self._pause(reply.headers))
        return Finding(user_id, answer.status, answer.detail, trace)

    def _pause(self, headers: CaseInsensitiveDict[str]) -> float:
        asked = headers.get("Retry-After", "")
        seconds = float(asked) if re.fullmatch(r"\d{1,9}", asked) else _THROTTLED
        if seconds > _LONGEST_PAUSE:
            raise self._unreachable(f"it asks to wait {seconds:.0f} s (HTTP 429)")
        return seconds

    def _unreachable(self, what: str, advice: str = "") -> DocusignUnreachable:
        usual = "nobody was mailed; when the network, and Docusign by its status page, are in order again: campaign run"
        return DocusignUnreachable(f"{self._config.server}: {what}", advice or usual)

    def _refused(self, answer: Answer, headers: CaseInsensitiveDict[str], trace: str) -> DocusignRefused:
        marks = [f"trace {trace}"] if trace else []
        off = ahead(headers, self._clock()) or 0.0
        if abs(off) > _CLOCK_SLACK:
            marks.append(f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Docusign's")
        note = f" ({'; '.join(marks)})" if marks else ""
        return DocusignRefused(f"{self._config.server} refuses the app: {answer.detail}{note}", answer.refusal)


def _trace(headers: CaseInsensitiveDict[str]) -> str:
    found = headers.get("X-DocuSign-TraceToken", "")
    return found if re.fullmatch(r"[0-9A-Za-z-]{1,64}", found) else ""
