"""Paragraphs of the text part: every line fits, nothing is lost, and Japanese breaks where Japanese may."""

from hypothesis import given
from hypothesis import strategies as st

from campaign.message.flowing import columns, wrap

JAPANESE = (
    "Contract Sender は、お客様に代わって Docusign を使用します（「同意」は一度だけです）。"
    "これを認めるのは、ご本人の同意をいただいた後だけです。"
)


def test_a_paragraph_is_broken_between_words_and_hangs_behind_its_bullet() -> None:
    assert wrap("one two  three\nfour", width=9) == "one two\nthree\nfour"
    assert wrap("one two three four", 4, width=12) == "one two\n    three\n    four"


def test_a_longer_word_stays_whole() -> None:
    url = f"https://example.com/{'x' * 90}"

    assert wrap(f"open {url} now") == f"open\n{url}\nnow"


def test_a_blank_that_may_not_break_does_not() -> None:
    assert wrap("rien n’a changé\u00a0: voilà", width=16) == "rien n’a\nchangé\u00a0: voilà"


def test_japanese_has_full_lines_and_none_begins_or_ends_with_what_may_not() -> None:
    lines = wrap(JAPANESE, width=40).split("\n")

    assert all(30 < columns(line) <= 40 for line in lines[:-1])
    assert not any(line.startswith(tuple("、。）」")) or line.endswith(tuple("（「")) for line in lines)


@given(st.text(alphabet="ab（「、。）」漢字カナー  \n\u00a0é“”", max_size=200), st.integers(1, 40))
def test_nothing_is_lost_and_every_line_fits_that_can(text: str, width: int) -> None:
    wrapped = wrap(text, width=width)

    assert "".join(wrapped.split(" ")).replace("\n", "") == text.replace(" ", "").replace("\n", "")
    assert all(columns(line) <= width or " " not in line for line in wrapped.split("\n"))
