"""Paragraphs for the text part: lines that fit 80 columns, in any script (UAX 11 and 14, as far as mails need them)."""

import re
from functools import lru_cache
from unicodedata import combining, east_asian_width

WIDTH = 72  # columns; 78 is the limit that RFC 5322 recommends
_OPENING = "（「『【〈《〔［｛“‘"  # noqa: RUF001  # the real ones
_CLOSING = "、。，．・：；？！）」』】〉》〕］｝”’…ーゝゞ々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"  # noqa: RUF001
"""No line begins with these."""
_WIDE = "⺀-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60"
_BLANKS = re.compile(r"[ \t\n]+")  # not those that may not break, as before a French colon
_PIECE = re.compile(rf"[{_OPENING}]*(?:[^{_WIDE}{_OPENING}{_CLOSING}]+|[{_WIDE}]?)[{_CLOSING}]*")


@lru_cache(1_000)  # most paragraphs are everybody's
def wrap(text: str, indent: int = 0, width: int = WIDTH) -> str:
    """Break `text` anew, each line after the first behind `indent` blanks, which the first has already; longer words stay whole.

    Between words of Chinese or Japanese, which have no blanks, a line may end after any character.
    """
    lines: list[str] = []
    line, used, room = "", 0, width - indent
    for word in _BLANKS.split(text.strip(" \t\n")):
        gap = " " if line else ""
        for piece in [word] if word.isascii() else filter(None, _PIECE.findall(word)):
            wide = columns(piece)
            if line and used + len(gap) + wide > room:
                lines.append(line)
                line, used = piece, wide
            else:
                line += gap + piece
                used += len(gap) + wide
            gap = ""
    return f"\n{' ' * indent}".join([*lines, line])


def columns(text: str) -> int:
    """How many columns a text takes where each letter takes one, and each of East Asia two."""
    return len(text) if text.isascii() else sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    return 0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1
