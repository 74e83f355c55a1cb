import re
from pathlib import Path

import pytest

from campaign.customers import Administrator
from campaign.errors import RosterError
from campaign.roster.customers import customers_of

HEADER = "customer,admin_email,domains"


def read(tmp_path: Path, *lines: str, header: str = HEADER) -> tuple[Administrator, ...]:
    path = tmp_path / "customers.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return customers_of(path)


def test_a_row_is_a_customer_with_its_administrator_and_domains(tmp_path: Path) -> None:
    acme, beta = read(
        tmp_path,
        "Acme  Ltd , IT@Acme.example,acme.example ACME.example",
        '"Beta, Inc.",a@b.example,"b.example, c.example;d.example"',
    )

    assert (acme.user_id, acme.name, acme.email, acme.recipient) == (
        *("customer:acme ltd", "Acme  Ltd", "IT@Acme.example"),
        "IT@acme.example",
    )
    assert (acme.domains, acme.line, acme.fault) == (("acme.example",), 2, "")
    assert beta.domains == ("b.example", "c.example", "d.example")


def test_columns_may_stand_in_any_order_and_others_beside_them(tmp_path: Path) -> None:
    (one,) = read(tmp_path, "de;b.example;x;a@b.example;Beta", header="Locale;Domains;Note;Admin Email;Customer")

    assert (one.name, one.email, one.domains, one.locale) == ("Beta", "a@b.example", ("b.example",), "de")


def test_a_domain_beyond_ascii_is_compared_in_its_a_labels(tmp_path: Path) -> None:
    (one,) = read(tmp_path, "Müller,a@müller.example,MÜLLER.example")

    assert one.domains == ("xn--mller-kva.example",)
    assert one.domain == "xn--mller-kva.example"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Beta,not an address,b.example", "admin_email is not a usable address"),
        ("Beta,,b.example", "admin_email is empty"),
        (",a@b.example,b.example", "customer is empty"),
        ("see www.evil.example,a@b.example,b.example", "customer holds a link"),
        ("Be\u202eta,a@b.example,b.example", "customer holds U+202E"),
    ],
)
def test_a_row_whose_administrator_cannot_be_used_is_told_and_still_says_whose_the_domains_are(
    tmp_path: Path, line: str, fault: str
) -> None:
    acme, other = read(tmp_path, "Acme,a@acme.example,acme.example", line)

    assert (acme.fault, other.fault.startswith(fault)) == ("", True)
    assert (other.domains, other.line) == (("b.example",), 3)
    assert other.email.isprintable()
    assert other.name.isprintable()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ["Acme,a@b.example,b.example", "Beta,a@c.example,c.example B.example"],
            ":3: the domain b.example stands in line 2, too",
        ),
        (["Acme,a@b.example,b.example", "ACME,a@c.example,c.example"], ":3: the customer ACME stands in line 2, too"),
        (["Acme,a@b.example,"], ":2: no domains"),
        (["Acme,a@b.example,b.example @c.example"], ':2: "@c.example" is no domain'),
        (["Acme,a@b.example,localhost"], ':2: "localhost" is no domain'),
        (["Acme,a@b.example,gmail.com"], ":2: gmail.com is a mail provider's"),
        (["Acme,a@b.example"], ":2: 2 fields, but the header has 3"),
        (['Acme,"a@b.example,b.example'], ":2: a quoted field begins here"),
        ([], ": there are no customers in it"),
    ],
)
def test_what_leaves_it_open_whose_users_are_whose_refuses_the_file(tmp_path: Path, lines: list[str], sentence: str) -> None:
    with pytest.raises(RosterError, match=re.escape(f"customers.csv{sentence}")):
        read(tmp_path, *lines)


@pytest.mark.parametrize("header", ["customer,domains", "customer,customer,admin_email,domains", "a,b,c"])
def test_the_header_needs_each_column_once(tmp_path: Path, header: str) -> None:
    with pytest.raises(RosterError, match=":1: "):
        read(tmp_path, ",".join(header.split(",")), header=header)


def test_a_file_that_is_not_there_is_named_by_its_own_key(tmp_path: Path) -> None:
    with pytest.raises(RosterError) as refused:
        customers_of(tmp_path / "nowhere.csv")

    assert refused.value.advice == "see [customers] file in campaign.toml"
