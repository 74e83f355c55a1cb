from dataclasses import replace

import pytest

from campaign.message.lint import Pages, Rules, audit_html, audit_line, audit_text

URL = "https://account.docusign.com/oauth/auth?response_type=code&scope=signature%20impersonation&client_id=1"
SHOWN = URL.replace("&", "&amp;")
LINK = f'<a href="{SHOWN}">{SHOWN}</a>'
RULES = Rules(URL, frozenset({"https://account.docusign.com/"}), "help@example.com", lambda word: word == "Written.com")


def page(inside: str = LINK, head: str = "") -> list[str]:
    html = f"<!DOCTYPE html><html><head>{head}</head><body>{inside}</body></html>"
    return [violation.what for violation in audit_html(html, RULES)]


def text(text: str) -> list[str]:
    return [violation.what for violation in audit_text(text, RULES)]


def test_a_plain_mail_passes() -> None:
    assert text(f"Hello,\n\n  {URL}\n\nlook for https://account.docusign.com/, or ask help@example.com.\n") == []
    assert page(f'<p style="margin: 0">Hello</p>{LINK}<a href="mailto:help@example.com">ask us</a>') == []


def test_the_consent_url_stands_on_a_line_of_its_own() -> None:
    assert text(f"open {URL}\n") == ["the consent URL must stand in full on a line of its own"]
    assert text("Hello\n") == ["the consent URL must stand in full on a line of its own"]


@pytest.mark.promise(17)
@pytest.mark.case(40)
@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/",
        "http://account.docusign.com/",
        "HTTPS://EVIL.EXAMPLE",
        "https://account.docusign.com/oauth/auth?client_id=2",
        "https://account.docusign.com.evil.example/",
        "www.evil.example",
        "WWW.evil.example",
        "bit.ly/3abcdef",
        "evil.example/login",
        "evil.example:8443",
        "evil.com",
        "ünïcode.com",
        "ftp://evil.example",
        "mailto:mallory@evil.example",
        "mailto:help@example.com?bcc=mallory@evil.example",
        "(https://evil.example)",
        "“www.evil.example”,",
        "<https://evil.example>",
        "x:https://account.docusign.com/",
        "https://evil.example/https://account.docusign.com/",
    ],
)
def test_whatever_a_mail_client_makes_a_link_of_is_found(link: str) -> None:
    assert len(text(f"{URL}\nHello {link} bye")) == 1
    assert len(page(f"{LINK}<p>Hello {link.replace('<', '&lt;')} bye</p>")) == 1


@pytest.mark.parametrize(
    "words",
    [
        "Dr.Müller and J.R.R. Tolkien, e.g. at 10:30, and/or 1.5/2",
        "ada@example.com (first.last@www.example.com), mailto:help@example.com.",
        "“https://account.docusign.com/”… (https://account.docusign.com/)",
        "Written.com",
        "Ratio 1:2; C:\\Users; 127.0.0.1",
    ],
)
def test_ordinary_words_are_no_links(words: str) -> None:
    assert [violation.what for violation in audit_line(words, RULES)] == []


def test_a_long_text_is_read_in_linear_time() -> None:
    for text_ in ("a" * 200_000, "a." * 100_000, "-." * 100_000, "w" * 100_000 + "ww.", "a.b/" * 50_000):
        assert len(list(audit_line(text_, RULES))) <= 1


def test_a_mail_that_asks_nobody_for_consent_needs_no_consent_url_and_may_link_nowhere_else() -> None:
    rules = replace(RULES, asks=False)

    assert [*audit_text("Hello\n", rules), *audit_html("<p>Hello</p>", rules)] == []
    assert len(list(audit_text("https://evil.example/\n", rules))) == 1
    assert len(list(audit_html('<a href="https://evil.example/">Hello</a>', rules))) == 1


def test_the_html_must_show_the_consent_url() -> None:
    expected = ["there must be a link to the consent URL whose visible text is that URL"]

    assert page("<p>Hello</p>") == expected
    assert page(f"<p>{SHOWN}</p>") == expected


@pytest.mark.promise(17)
@pytest.mark.case(40)
@pytest.mark.parametrize(
    "link",
    [
        f'<a href="{SHOWN}">Review documents</a>',
        f'<a href="{SHOWN}">https://account.docusign.com/</a>',
        f'<a href="https://account.docusign.com/">{SHOWN}</a>',
        f'<a href="https://evil.example/">{SHOWN}</a>',
        '<a href="https://evil.example/">https://evil.example/</a>',
        '<a href="https://bit.ly/abc">https://bit.ly/abc</a>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href="data:text/html,x">x</a>',
        '<a href="//evil.example">x</a>',
        '<a href="/relative">x</a>',
        '<a href="">x</a>',
        '<a href="mailto:help@example.com?body=x">help@example.com</a>',
        '<a href=" https://account.docusign.com/">https://account.docusign.com/</a>',
    ],
)
def test_a_link_that_hides_its_target_or_leads_elsewhere_is_found(link: str) -> None:
    assert page(LINK + link) != []


@pytest.mark.promise(17)
@pytest.mark.parametrize(
    "inside",
    [
        "<script>x</script>",
        "<form></form>",
        "<input>",
        "<button>x</button>",
        "<iframe></iframe>",
        "<object></object>",
        "<embed>",
        "<svg></svg>",
        "<math></math>",
        "<video></video>",
        "<audio></audio>",
        "<area>",
        "<noscript></noscript>",
        "<template></template>",
        "<textarea></textarea>",
        '<img alt="">',
        '<img src="https://evil.example/pixel.gif">',
        '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
        '<img src="cid:logo">',
        '<picture><source srcset="x"></picture>',
        '<table background="https://evil.example/x.png"></table>',
        '<p onclick="x()">x</p>',
        '<p ONMOUSEOVER="x()">x</p>',
        f'<a ping="https://evil.example" href="{SHOWN}">{SHOWN}</a>',
        f'<a title="https://evil.example" href="{SHOWN}">{SHOWN}</a>',
        '<p style="background: url(https://evil.example/x.png)">x</p>',
        '<p style="background: URL (x)">x</p>',
        '<p style="background: image-set(x)">x</p>',
        '<p style="background: u\\72l(x)">x</p>',
        "<!-- [if mso]> x <![endif] -->",
        "<!--[if mso]>x<![endif]-->",
        "<![CDATA[x]]>",
        "<?php x ?>",
    ],
)
def test_nothing_remote_active_or_hidden_passes(inside: str) -> None:
    assert page(LINK + inside) != []


@pytest.mark.promise(17)
@pytest.mark.parametrize(
    "head",
    [
        '<base href="https://evil.example/">',
        '<link rel="stylesheet" href="https://evil.example/x.css">',
        '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
        "<style>@import 'https://evil.example/x.css';</style>",
        "<style>@font-face { font-family: x }</style>",
        "<style>p { background-image: url('x') }</style>",
        '<style>a::after { content: "https://evil.example" }</style>',
        "<style>p { width: expression(x) }</style>",
        "<script></script>",
    ],
)
def test_nothing_in_the_head_loads_or_leads_away(head: str) -> None:
    assert page(head=head) != []


def test_the_css_that_a_mail_needs_passes() -> None:
    style = "<style>p { justify-content: center } @media (prefers-color-scheme: dark) { a { color: #fff !important } }</style>"

    assert page(head=f'<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Hello</title>{style}') == []


def test_a_violation_is_printable_and_short() -> None:
    (only,) = page(f"{LINK}<p>https://evil.example/\x1b[31m{'x' * 5000}</p>")

    assert only.isprintable()
    assert len(only) < 200


# --- one page after another

LETTER = f'<style>p > b {{ color: red }}</style><p lang="en">Hello <b>Ann</b>, so &lt;that&gt; is it</p>{LINK}<p>Bye, Ann</p>'


def of(html: str) -> str:
    return f"<!DOCTYPE html><html><head></head><body>{html}</body></html>"


@pytest.mark.promise(17)
@pytest.mark.parametrize(
    ("before", "old", "new"),
    [
        (LETTER, "Hello <b>Ann", "Hello <b>Zoë &amp; Bo"),
        (LETTER, "Hello <b>Ann", "Hello <b>https://evil.example"),
        (LETTER, "Bye, Ann", "Bye, evil&#46;com"),
        (LETTER, "Hello", "Hello evil.com/a and evil.com/b"),
        (LETTER, "Hello <b>Ann</b>", "Hello <b>Ann"),
        (LETTER, "<b>Ann</b>", "<i>Ann</i>"),
        (LETTER, "color: red", "background: url(evil)"),
        (LETTER, 'lang="en"', 'onclick="x"'),
        (LETTER, f">{SHOWN}<", f">{SHOWN} <"),
        (LETTER, f">{SHOWN}<", f">here {SHOWN}<"),
        (LETTER, SHOWN, SHOWN.replace("impersonation", "all")),
        (f'{LETTER}<a href="{SHOWN}"><b>{SHOWN}</b></a>', f"<b>{SHOWN}", "<b>press here"),
        (f'{LETTER}<p class="a> Ann <b">x</p>', "a> Ann <b", "a> evil.com <b"),
        (f'{LETTER}<p style="a> Ann <b">x</p>', "a> Ann <b", "a> url(evil) <b"),
        (f'{LETTER}<p style="a > Ann">x</p>', "a > Ann", "a > url(evil)"),
        (f"{LETTER}<!-- Ann -->", "<!-- Ann -->", "<!-- Ann -- >"),
        (LETTER, "Bye, Ann</p>", "Bye, Ann</p><!-- no > -->"),
    ],
)
def test_a_page_after_others_is_found_to_hold_what_it_holds_by_itself(before: str, old: str, new: str) -> None:
    after = before.replace(old, new)
    pages = Pages(RULES)
    first = [*pages.audit(of(before))]
    again = [*pages.audit(of(after))]

    assert after != before
    assert first == [*audit_html(of(before), RULES)]
    assert again == [*audit_html(of(after), RULES)]
    assert [*pages.audit(of(before))] == first
