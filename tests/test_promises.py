"""The register: which tests show which of the README's twenty promises, and which of the 47 cases of trouble below.

A test claims them by `@pytest.mark.promise(4)` and `@pytest.mark.case(1, 4)`; `-k P04` and `-k T26` select by them.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text(encoding="utf-8")

# What happens, and what is promised then.
CASES = {
    1: "RCPT is answered with 450 for one user: deferred; the others are sent; another night the same message in the same slot",
    2: "RCPT is answered with 550 5.1.1: exit 3, undeliverable until the roster shows another address or it is ordered otherwise",
    3: "MAIL FROM is answered with 550 5.7.60: the run stops after that one, nobody is blamed, exit 5",
    4: "the relay hangs up at DATA, before its 354: deferred, not unknown",
    5: "the relay sends a 421 after every fifth message: connected anew, everybody is mailed once",
    6: "RCPT is answered with 452 for everybody: stopped after three messages over a few connections, exit 5",
    7: "no STARTTLS is offered, or it is answered with 454: nothing is sent, no sign-in is seen, exit 5",
    8: "a certificate is self-signed, expired or another host's, at relay or account server: refused unsent, exit 5",
    9: "the password is refused with 535: one attempt only, so that no account is locked, exit 5",
    10: "the access token for the relay runs out during the run: a fresh one is fetched once, and it goes on",
    11: "texts with lone dots, bare CR, 2,000 characters a line, From lines, emoji: they arrive as rendered, in CRLF lines",
    12: """a name like Zoë "Q" O'Neil, Jr. <x>: one address in To, the name to the letter""",
    13: "an internationalised domain goes out as A-labels; a mailbox beyond ASCII that the relay cannot take is reported",
    14: "a relay without 8BITMIME, SIZE or ESMTP: it gets seven bits, or is refused cleanly",
    15: "SIGTERM during the probing: no mail, a report of what was found with the others as stopped, exit 143",
    16: "SIGTERM after the final dot, the answer comes later: noted as accepted, no other message, exit 143",
    17: "two SIGINTs within a second at that point: ended within 2 s; unknown after the next start, and not sent again",
    18: "a second run while the first is under way: exit 75 at once, no file is touched",
    19: "the machine was rebooted: a run died by SIGKILL and its lock file is still there: the next run starts as ever",
    20: "STOP is created during the run: no message after it, exit 4",
    21: "twenty runs in one day: each user who is due is mailed once",
    22: "summer time begins and ends in Berlin and New York: nobody is mailed twice, no reminder is left out",
    23: "the account server is down all night, by refusal, DNS or silence: nobody is mailed, in bounded time, exit 5",
    24: "429 with Retry-After: 3600: the probing stops at once, nobody is mailed, exit 5",
    25: "the app is refused by issuer_not_found, no_valid_keys_or_signatures or the like: stopped, the key to look at, exit 5",
    26: "Docusign does not know one user: that user alone is not mailed, exit 3",
    27: "a valid RSA key that is another app's: as case 25",
    28: "this machine's clock is ten minutes off: named as what is wrong, nobody is mailed",
    29: "one environment's server with the other's audience: cannot be configured, and would be refused by the other server",
    30: "a key file that is open to others, another's, no plain file, or no RSA key of 2048 bits: exit 2 before the network",
    31: "campaign.toml is missing, empty, misspelt, wrong in a type or has a key twice: exit 2 with the line and what is near",
    32: "rosters in UTF-16, with a BOM, in cp1252, with ; or tabs, CR line ends, blank last lines: right or refused, not misread",
    33: "NUL, bidi and zero-width characters, a line break within a name: refused, and shown escaped",
    34: "a roster of 1 GB, a field of 200 KB, a row more than max_rows: refused soon and in little memory, exit 2",
    35: "a user id twice, one address under two ids, other capitals: one user or none; one message for an address",
    36: "an empty roster: exit 2; half the rows gone or twice the rows: exit 4 until it is approved",
    37: "a user leaves the roster and returns: the history is kept, old messages count",
    38: "templates that are broken, endless, of 50 MB, or that break out or read files: exit 2 before the first message",
    39: "a name that is HTML, also in a file of another suffix: escaped",
    40: "a link whose text is not its target, a foreign link, a shortened link: refused",
    41: "the report is open elsewhere or a symlink: replaced in one step; cannot be written: the old one is whole, exit 6",
    42: "everybody may write the ledger's folder or read the ledger: refused with the command that helps, exit 6",
    43: "the disk is full before the start: exit 6 before anybody is asked",
    44: "the server that is pinged hangs or fails: the run is unaffected, less than 10 s are spent",
    45: "forget and purge, then the user returns: no personal data in the ledger's file, and the cap still holds",
    46: "the relay's reply forges a line of the log, with CR, LF and ESC: one escaped line of JSON",
    47: "proxies, .netrc and certificate authorities of an attacker in the environment: ignored",
}


def promises() -> dict[int, str]:
    """The numbered list in the README."""
    section = README.partition("\n## What it promises\n")[2].partition("\n## ")[0]
    return {int(number): text for number, text in re.findall(r"^(\d+)\. (.+)$", section, re.MULTILINE)}


@cache
def claims(kind: str) -> dict[int, set[str]]:
    """The tests that claim each number by a marker of this kind."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in TESTS.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for number in _numbers(node, kind):
                    found[number].add(f"{path.name}::{node.name}")
    return dict(found)


def _numbers(function: ast.FunctionDef, kind: str) -> list[int]:
    """What the decorators of a test claim, also for single ones of its parameters."""
    calls = [node for mark in function.decorator_list for node in ast.walk(mark) if isinstance(node, ast.Call)]
    marks = [call for call in calls if ast.unparse(call.func) == f"pytest.mark.{kind}"]
    return [ast.literal_eval(argument) for mark in marks for argument in mark.args]


def test_the_promises_are_numbered_from_one_to_twenty() -> None:
    assert [*promises()] == [*range(1, 21)]
    assert [*CASES] == [*range(1, 48)]


def test_every_promise_has_a_test() -> None:
    missing = {number: text for number, text in promises().items() if number not in claims("promise")}

    assert missing == {}


def test_every_case_has_a_test() -> None:
    missing = {number: text for number, text in CASES.items() if number not in claims("case")}

    assert missing == {}


def test_nothing_else_is_claimed() -> None:
    assert claims("promise").keys() - promises().keys() == set()
    assert claims("case").keys() - CASES.keys() == set()


def test_a_number_selects_the_tests_that_claim_it() -> None:
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", "-o", "addopts=", "-k", "T26 or P04"]
    done = subprocess.run([*words, TESTS / "test_nightly.py"], cwd=TESTS.parent, capture_output=True, text=True, check=True)
    selected = set(re.findall(r"test_nightly\.py::\w+", done.stdout))

    assert selected == {name for name in claims("case")[26] | claims("promise")[4] if name.startswith("test_nightly.py")}
