"""What both providers have in common: one caller at a time, and a library that is there only where it is needed."""

import importlib
import threading
from abc import ABC, abstractmethod
from typing import Any

from campaign.errors import ConfigError
from campaign.sasl.exchange import Exchange


class TokenSource(ABC):
    """Gives an access token for each connection to the relay. Any thread may ask."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lock = threading.Lock()

    def __call__(self, *, fresh: bool = False) -> str:
        """A token that is still good, from memory if there is one; with `fresh` always a new one.

        Each exchange with the provider ends within 30 s; no connection stays open. Raises RelayRefused, where the provider
        refuses the app, and RelayUnreachable, where no usable answer came.
        """
        with self._lock:
            try:
                return self._token(fresh=fresh)
            finally:
                self._exchange.close()

    @abstractmethod
    def _token(self, *, fresh: bool) -> str: ...


def library(module: str, package: str, provider: str) -> Any:  # noqa: ANN401  # neither of the two has types worth the name
    """Import what only this provider's tokens need. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f'[mail] auth = "{provider}" needs the package {package}, which is not installed'
        raise ConfigError(what, f"pip install 'campaign[{provider}]'") from error
