r"""Mails that have come to grief on their way through one mail system or another.

    for number, nasty in enumerate(NASTY, 1):
        nasty.user(number)    # the row of roster.csv
        nasty.text(url)       # the text part that must arrive, to the letter, its line ends as \n

`write_templates(folder)` makes one campaign of them: the column `nasty` of a row says which template is its user's.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.world import email, user_id

GREETING = "Hello {{ user.name }},\n\n{{ consent_url }}\n"


@dataclass(frozen=True, slots=True)
class Nasty:
    """One such mail: a template, or a person's name, or both."""

    name: str
    template_text: str = GREETING  # the invitation's body.txt; of Jinja it has {{ user.name }} and {{ consent_url }} alone
    person: str = "Ada Lovelace"
    refused: bool = False  # the roster rejects such a row, and nobody is mailed; the mail could be written all the same

    def user(self, number: int) -> dict[str, str]:
        """The row of roster.csv for the person with this number."""
        return {"user_id": user_id(number), "email": email(number), "name": self.person, "nasty": self.name}

    def text(self, consent_url: str) -> str:
        """The text part that must arrive: every line ends in a line feed, the last one too, and none is blank at either end."""
        filled = self.template_text.replace("{{ user.name }}", self.person).replace("{{ consent_url }}", consent_url)
        return filled.replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"


NASTY = (
    Nasty("lone dots", ".\n..\n.\n\n{{ consent_url }}\n\n.\n...\n."),
    Nasty("an end of data and a second mail", "Hello\n\n.\nMAIL FROM:<a@example.com>\nDATA\n.\n\n{{ consent_url }}\n"),
    Nasty("lines that begin with dots", ".profile\n..\t.\n.{{ user.name }}\n. {{ consent_url }}\n\n{{ consent_url }}\n.é\n"),
    Nasty("emoji", "Hello 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽\n\n{{ consent_url }}\n", person="Zoë 🦄"),
    Nasty("a line of 2,000 characters", "long " * 400 + "\n\n{{ consent_url }}\n"),
    Nasty("a line of 2,000 octets beyond ASCII", "lång " * 400 + "\n\n{{ consent_url }}\n"),
    Nasty("a word of 900 characters", "x" * 900 + "\n" + "é" * 900 + "\n\n{{ consent_url }}\n"),
    Nasty("lines that begin with From", "From here on\n\nFrom: me\n>From you\n{{ consent_url }}\nFrom é\n"),
    Nasty("carriage returns", "one\rtwo\r\nthree\r\r\n.\r\n\n{{ consent_url }}\n"),
    Nasty("a carriage return in a name", person="Ada\r\nBcc: boss@example.com\r.\r\nLovelace", refused=True),
    Nasty("control characters", "null \0, escape \x1b[31m, bell \a, tab \t, form feed \f, delete \x7f\n{{ consent_url }}\n"),
    Nasty("control characters in a name", person="Ada\x1b[2J\u202eLovelace", refused=True),
    Nasty("line separators that are no line ends", "one\u2028two\u2029three\x85four\x0bfive\n{{ consent_url }}\n"),
    Nasty("characters beyond the first plane", "𝒳 𐍈 🀄 \U0010fffd \ufffd\n{{ consent_url }}\n", person="𠮷田 𐐔"),
    Nasty("a name with everything", person='Zoë "Q" O\'Neil, Jr. <x>'),
    Nasty("blanks at the ends of lines", "blank \ntwo  \ntab\t\n \n\t\n{{ consent_url }}\né \nlast "),
    Nasty("what looks encoded", "=3D =\n=20=\n=?utf-8?q?x?= soft=\nbreak é\n{{ consent_url }}\n"),
    Nasty("no line end at the end", "Hello {{ user.name }}\n\n{{ consent_url }}"),
    Nasty("no line end at the end, beyond ASCII", "{{ consent_url }}\n\nHello é"),
)


def write_templates(folder: Path) -> Path:
    """Write `folder`/invite/body.txt, which is each user's own template; the other parts are those that ship."""
    for nasty in NASTY:
        _write(folder / "nasty" / f"{nasty.name}.txt", nasty.template_text)
    _write(folder / "invite" / "body.txt", "{% include 'nasty/' ~ row['nasty'] ~ '.txt' %}")
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
