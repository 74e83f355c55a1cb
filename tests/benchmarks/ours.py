"""The program's own work, through the same functions as `campaign run`."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import bindparam

from campaign import nightly, plan, report
from campaign.config import Config
from campaign.given import Means, Waits, composer, mailer, prepare
from campaign.ledger import Ledger, open_ledger, witness_of
from campaign.ledger.schema import slots, users
from campaign.message import freeze
from campaign.model import Delivery, Finding, Outcome, Reason, Slot, Status, User
from campaign.night import Night
from campaign.probing import probe
from campaign.stopping import Stop
from tests.benchmarks.measuring import Sample, timed
from tests.benchmarks.scene import NOW, Scene, granted, read


def _means() -> Means:
    return Means(lambda: NOW, Stop(), {}, waits=Waits(room=0))


@contextmanager
def _folder(scene: Scene) -> Iterator[Path]:
    folder = Path(mkdtemp(dir=scene.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def probes(scene: Scene, rows: int, delay: float, concurrency: int) -> Sample:
    """All that a night does to ask everybody, the ledger included; the users are known to it already."""
    with _folder(scene) as folder:
        config = scene.config(rows, folder, delay=delay, concurrency=concurrency)
        night = Night(config, _means(), prepare(config, _means()), NOW, "benchmark")
        with open_ledger(config) as ledger:
            ledger.begin("benchmark", NOW)
            ledger.enrol(night.given.roster.users, {}, NOW)
            with timed(rows) as sample:
                probe(night, ledger)
        assert len(night.findings) == rows
        assert not night.problems
    return sample


def composing(scene: Scene, messages: int) -> Sample:
    """Messages rendered, examined and frozen."""
    with _folder(scene) as folder:
        config = scene.config(messages, folder)
        people, compose = read(config).users, composer(config).compose
        with timed(messages) as sample:
            for number, user in enumerate(people):
                freeze(compose(user, 1, message_id=f"<{number}@example.com>", date=NOW))
    return sample


def mails(scene: Scene, messages: int, delay: float) -> Sample:
    """Messages composed, and handed over on one connection."""
    with _folder(scene) as folder:
        config = scene.config(messages, folder, reply_delay=delay)
        people, compose = read(config).users, composer(config).compose
        with mailer(config, _means()) as relay:
            relay.ready()
            with timed(messages) as sample:
                for number, user in enumerate(people):
                    relay.ready()
                    data = freeze(compose(user, 1, message_id=f"<{number}@example.com>", date=NOW, eight_bit=relay.eight_bit))
                    assert relay.send(data, user.recipient).outcome is Outcome.ACCEPTED
    return sample


def hand_over(scene: Scene, messages: int) -> Sample:
    """The same bytes again and again, on one connection."""
    with _folder(scene) as folder:
        config = scene.config(10, folder)
        user = read(config).users[0]
        data = freeze(composer(config).compose(user, 1, message_id="<1@example.com>", date=NOW))
        with mailer(config, _means()) as relay:
            relay.ready()
            with timed(messages) as sample:
                for _ in range(messages):
                    relay.ready()
                    relay.send(data, user.recipient)
    return sample


def commits(scene: Scene, messages: int) -> Sample:
    """The two commits of each message, before it is handed over and after, and nothing else of it."""
    with _folder(scene) as folder:
        config = scene.config(messages, folder)
        people, accepted = read(config).users, Delivery(Outcome.ACCEPTED, "250 ok")
        with open_ledger(config) as book:
            book.begin("benchmark", NOW)
            book.enrol(people, {}, NOW)
            with timed(messages) as sample:
                for user in people:
                    slot = Slot(user.user_id, 1, user.recipient, user.address, f"<{user.line}@example.com>", NOW)
                    book.open(slot, "", NOW)
                    book.settle(slot, accepted, NOW)
    return sample


def night(scene: Scene, rows: int, delay: float, concurrency: int) -> Sample:
    """A whole first night: roster, ledger, probes, plan, mail with two durable commits for each, report."""
    with _folder(scene) as folder:
        config = scene.config(rows, folder, delay=delay, concurrency=concurrency)
        with timed(rows) as sample:
            done = nightly.run(config, _means(), approved=rows)
        assert not done.problems, done.problems
    return sample


def roster(scene: Scene, rows: int) -> Sample:
    """The roster, read and checked."""
    with _folder(scene) as folder:
        config = scene.config(rows, folder)
        with timed(rows) as sample:
            found = read(config)
        assert len(found.users) == rows
    return sample


def ledger(scene: Scene, rows: int) -> Sample:
    """Everybody enrolled, an answer of everybody noted, and all standings loaded."""
    with _folder(scene) as folder:
        config = scene.config(rows, folder)
        people = read(config).users
        with open_ledger(config) as book:
            book.begin("benchmark", NOW)
            with timed(rows) as sample:
                book.enrol(people, {}, NOW)
                known = book.standings()
                book.note((Finding(user.user_id, Status.GRANTED) for user in people), known, NOW)
                assert len(book.standings()) == rows
    return sample


def planning(scene: Scene, rows: int) -> Sample:
    """A decision about everybody, none of whom was written to."""
    with _folder(scene) as folder:
        config = scene.config(rows, folder)
        people = read(config).users
        lacking = {
            user.user_id: granted(user.user_id, user.email)._replace(
                status=Status.CONSENT_REQUIRED, found=Status.CONSENT_REQUIRED, lacking_since=NOW
            )
            for user in people
        }
        scope = config.docusign.scope
        terms = plan.Terms(config.policy, NOW, rows, rows, frozenset(), {}, scope=scope)
        with timed(rows) as sample:
            assert all(decision.action for decision in plan.decide(people, lacking, terms))
    return sample


def csv_report(scene: Scene, rows: int) -> Sample:
    """report.csv alone, with its copy in the history."""
    return _report(scene, rows, ("csv",))


def xlsx_report(scene: Scene, rows: int) -> Sample:
    """report.xlsx, and the history's CSV."""
    return _report(scene, rows, ("xlsx",))


def _report(scene: Scene, rows: int, formats: tuple[str, ...]) -> Sample:
    with _folder(scene) as folder:
        config = scene.config(rows, folder)
        people = read(config)
        standings = {user.user_id: granted(user.user_id, user.email) for user in people.users}
        # Made beforehand, as the yardstick's cells are; that none is kept while writing, the growth of a quiet night shows.
        lines = [*report.rows(people, standings, lambda _, standing: plan.upcoming(standing, config.policy))]
        with timed(rows) as sample:
            report.write(lines, folder / "reports", formats=formats, mode=0o600, at=NOW)
    return sample


def quiet_night(scene: Scene, rows: int) -> Sample:
    """A night on which 95 % are granted and not due and the rest waits for a reminder; the time of the probes is left out."""
    spent = _Stopwatch()
    with _folder(scene) as folder:
        config = scene.config(rows, folder, concurrency=4)
        settle(config)
        with timed(rows) as sample:
            done = nightly.run(config, replace(_means(), progress=spent))
        assert (done.problems, done.deliveries) == ([], [])
    sample.wall -= spent.wall
    sample.cpu -= spent.cpu
    return sample


class _Stopwatch:
    """Measures the time of the probes, from the first answer to the last, by the progress that a night tells."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == "probing" and done in {1, total}:
            sign = 1 if done == total else -1
            self.wall += sign * time.perf_counter()
            self.cpu += sign * time.process_time()


def settle(config: Config) -> None:
    """Make the ledger of a campaign in which 95 of 100 have consented, and the others were written to yesterday."""
    people, yesterday = read(config).users, NOW - timedelta(days=1)
    with open_ledger(config) as ledger:
        ledger.begin("before", yesterday)
        ledger.enrol(people, {}, yesterday)
        _remember(ledger, [user for user in people if int(user.user_id[:8], 16) % 20 == 0], yesterday)
        ledger.let_through(yesterday, len(people))
        ledger.finish(yesterday, 0, "{}")
        witness_of(config, ledger)


def _remember(ledger: Ledger, waiting: list[User], at: datetime) -> None:
    """At once, for nights of thousands of messages would take minutes."""
    consent = {"status": Status.GRANTED, "reason": Reason.GRANTED, "granted_at": at, "verified_at": at}
    consent |= {"granted_scope": ledger._scope}
    lack = {
        "status": Status.CONSENT_REQUIRED,
        "reason": Reason.WAITING,
        "granted_at": None,
        "verified_at": None,
        "granted_scope": "",
    }
    sent = {"campaign": ledger._campaign, "step": 1, "date": at, "sha256": "", "attempts": 1, "tried_at": at}
    with ledger._transaction() as connection:
        connection.execute(users.update().values(**consent, last_probed=at))
        these = users.update().where(users.c.campaign == ledger._campaign, users.c.user_id == bindparam("key"))
        connection.execute(these.values(**lack, lacking_since=at), [{"key": user.user_id} for user in waiting])
        connection.execute(
            slots.insert().values(**sent, outcome=Outcome.ACCEPTED, reply="250 ok", run_id="before"),
            [_slot(user) for user in waiting],
        )


def _slot(user: User) -> dict[str, str]:
    message_id = f"<{user.line}@example.com>"
    return {"user_id": user.user_id, "message_id": message_id, "recipient": user.recipient, "address": user.address}
