"""What a bug prints: of what kind it is and where it happened, never what was being handled there.

An exception's text may quote what a library was given: the key, an assertion, a token, a password, as it was, encoded, or
cut in two. No search for the known secrets would find them in every form, so texts are left out altogether, as are notes,
values and local variables.
"""

import ctypes
import errno
import logging
import resource
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

_PR_SET_DUMPABLE = 4  # prctl(2)


def leave_no_core() -> None:
    """Let this process leave no core file, which would hold the key, nor let others of the same user read its memory.

    A limit of 0, which child processes inherit, rules core files alone: a handler that they are piped to gets them all the
    same (core(5)). A process that is not dumpable has none for it either, but whatever it starts is dumpable again (prctl(2)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def tell_by(say: Callable[[str], None]) -> None:
    """Tell of what is raised in threads and destructors, too, by `told` alone, and let no library log anything."""

    def tell(about: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> None:
        say(told(about.exc_value or BaseException()))

    threading.excepthook = sys.unraisablehook = tell
    logging.disable()


def told(error: BaseException) -> str:
    """The bug in one sentence, the next step, and the tracebacks of all that led to it, without what any error says."""
    links = list(_chain(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    trail = "\n\nThat led to the next:\n\n".join(map(_traceback, reversed(links)))
    return (
        f"a bug: {_kind(error)}{where}\n"
        "          report it with all that follows; texts of errors and values are left out, as they may hold secrets\n"
        f"{trail}"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and so on, each once."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ if error.__suppress_context__ else error.__context__


def _traceback(error: BaseException) -> str:
    frames = "".join(traceback.extract_tb(error.__traceback__).format())
    return f"Traceback (most recent call last):\n{frames}{_kind(error)}"


def _kind(error: BaseException) -> str:
    """The error's type, with what cannot be a secret: the system's number for it, or the name in the code that is not there."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    match error:
        case OSError(errno=int(number)) if number in errno.errorcode:
            return f"{name} ({errno.errorcode[number]})"
        case ImportError(name=str(missing)) | AttributeError(name=str(missing)) | NameError(name=str(missing)):
            return f"{name} ({missing})"
    return name
