"""What all chapters of the ledger's book share: its campaign, its transactions, how users are updated and events told."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam
from sqlalchemy.exc import SQLAlchemyError

from campaign.errors import LedgerError
from campaign.ledger import masking
from campaign.ledger.schema import events, users
from campaign.ledger.store import Store, in_words
from campaign.model import Standing

Told: TypeAlias = tuple[str, str, str]  # an event: of which user, what, and the detail

_TELL = events.insert()
_BATCH = 1_000  # rows


class Book:
    """One campaign's rows. Every public method of a chapter is one transaction, committed when it returns."""

    def __init__(self, connection: Connection, campaign: str, store: Store, scope: str) -> None:
        self._connection = connection
        self._campaign = campaign
        self._store = store
        self._scope = scope  # that is asked for now
        self.run_id = ""
        self._unmasked: dict[str, str] = {}  # what masks stand for, as far as the roster has shown it
        self._hidden = frozenset[str]()  # what that is: ids and addresses that the ledger does not know by name

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._connection.begin():
                yield self._connection
        except SQLAlchemyError as error:
            raise LedgerError(f"{self._store.name}: {in_words(error)}", self._store.advice) from error

    def _mine(self, table: Any) -> Any:  # noqa: ANN401  # SQLAlchemy's own expression types
        return table.c.campaign == self._campaign

    def _row(self, user_id: str, **values: object) -> dict[str, object]:
        return {"campaign": self._campaign, "user_id": user_id, **values}

    def _update(self, *columns: str) -> Any:  # noqa: ANN401
        """An update of these columns for many users at once: parameters `key` and `to_<column>`."""
        this = users.update().where(self._mine(users), users.c.user_id == bindparam("key"))
        return this.values({column: bindparam(f"to_{column}") for column in columns})

    def _tell(self, connection: Connection, told: Iterable[Told], now: datetime) -> None:
        shared = {"campaign": self._campaign, "at": now, "run_id": self.run_id}
        many(connection, _TELL, ({"user_id": u, "what": w, "detail": d, **shared} for u, w, d in told))

    def _own(self, text: str) -> str:
        """What a mask stands for, if the roster has shown it; any other text as it is."""
        return self._unmasked.get(text, text)

    def _unmask(self, standing: Standing) -> Standing:
        if not masking.is_masked(standing.user_id):
            return standing
        email, undeliverable = self._unmasked.get(standing.email, ""), self._own(standing.undeliverable)
        return standing._replace(user_id=self._own(standing.user_id), email=email, undeliverable=undeliverable)


def many(connection: Connection, statement: Any, rows: Iterable[dict[str, Any]]) -> None:  # noqa: ANN401
    """Execute for all rows, so many at a time that it takes no memory to speak of; for none at all, nothing."""
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        connection.execute(statement, batch)
