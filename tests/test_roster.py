import codecs
import csv
import gc
import io
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from email_validator import validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign import roster
from campaign.doctor.papers import people
from campaign.errors import RosterError
from campaign.files import shipped
from campaign.model import Check, Grade, Reject, Roster, User
from campaign.roster import checks
from tests.world import World, email, user_id

ANNE = "8d3b0a7e-52c1-4f3e-9a55-0c1f6f0c7b11"
BORIS = "1f0c2b6d-7e44-4c02-8b1a-63f2d9a4e822"
HEADER = "user_id,email,name\n"
ROW = f"{ANNE},anne@example.com,Anne\n"
OTHER = f"{BORIS},boris@example.com,Boris\n"
PLAIN, ESIGNATURE, MEMBERSHIPS = (shipped("data") / f"roster{kind}.csv" for kind in ("", "-esignature", "-memberships"))


def parse(
    content: str | bytes, *, encoding: str = "", max_rows: int = 1_000_000, columns: Mapping[str, str] | None = None
) -> Roster:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roster.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return roster.read(path, encoding=encoding, max_rows=max_rows, columns=columns)


def refusal(
    content: str | bytes, *, encoding: str = "", max_rows: int = 9, columns: Mapping[str, str] | None = None
) -> RosterError:
    with pytest.raises(RosterError) as caught:
        parse(content, encoding=encoding, max_rows=max_rows, columns=columns)
    return caught.value


def message(content: str | bytes, *, encoding: str = "", max_rows: int = 9, columns: Mapping[str, str] | None = None) -> str:
    """What the refusal says from the file's name on."""
    return str(refusal(content, encoding=encoding, max_rows=max_rows, columns=columns)).rpartition("/")[2]


def reason(row: str, header: str = HEADER) -> str:
    """Why this row is rejected; "" if it is not. The row after it must not suffer."""
    read = parse(header + row + "\n" + OTHER.strip() + "," * (header.count(",") - 2) + "\n")

    assert read.users[-1].user_id == BORIS
    return read.rejects[0].reason if read.rejects else ""


# The three files that work as they are


def test_a_plain_file_works_as_it_is() -> None:
    read = roster.read(PLAIN)

    assert (len(read.rows), len(read.users)) == (26, 22)
    assert [reject.line for reject in read.rejects] == [24, 25, 26, 27]
    assert read.users[4].name == "O'Neil, Jr., Patrick"
    assert [user.name for user in read.users if user.email == "contracts@example.com"] == ["Sam Lee", "Kim Lee"]


def test_the_esignature_download_works_as_it_is() -> None:
    read = roster.read(ESIGNATURE)

    assert (len(read.rows), len(read.users)) == (20, 18)
    assert [user.name for user in read.users if user.closed] == ["Bruno Ferreira", "Noa Ben-Ami"]
    assert read.users[3].user_id == "47aadfe0-470d-4c35-bdf8-ac5dbc76eec7"
    assert read.users[3].row["APIUserName"] == "47AADFE0-470D-4C35-BDF8-AC5DBC76EEC7"
    assert (read.users[0].row["Group"], read.users[0].row["Group.2"]) == ("Everyone", "Contracts")
    assert read.users[17].recipient == "björn@example.org"
    assert [reject.line for reject in read.rejects] == [19, 21]


def test_the_memberships_export_works_as_it_is() -> None:
    read = roster.read(MEMBERSHIPS)

    assert (len(read.rows), len(read.users)) == (20, 12)
    assert read.users[0].row["AdressLine2"] == ""
    assert [user.name for user in read.users if user.closed] == ["Bruno Ferreira"]
    assert [reject.line for reject in read.rejects] == [8, 18, 20, 21]


def test_a_user_in_two_accounts_is_one_user_shown_in_both_rows() -> None:
    shown = dict(roster.read(MEMBERSHIPS).rows)

    assert shown[2] is shown[12]
    assert shown[7] is shown[14]


def test_pandas_infers_nothing() -> None:
    names = {user.name: user for user in roster.read(PLAIN).users}

    assert names["Thandiwe NA"].name == "Thandiwe NA"
    assert names["Christopher Null"].row["note"] == "007"
    assert [user.last_name for user in roster.read(ESIGNATURE).users[3:5]] == ["NA", "Null"]
    assert parse(HEADER + f"{ANNE},anne@example.com,NaN\n").users[0].name == "NaN"


# Encodings


@pytest.mark.case(32)
@pytest.mark.parametrize("file", [PLAIN, ESIGNATURE, MEMBERSHIPS], ids=lambda path: path.stem)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_a_byte_order_mark_or_utf_8_needs_no_setting(file: Path, encoding: str) -> None:
    text = file.read_text("utf-8-sig")
    content = codecs.BOM_UTF16_BE + text.encode("utf-16-be") if encoding.endswith("bom") else text.encode(encoding)

    assert parse(content) == roster.read(file)
    assert parse(content, encoding="cp1252") == roster.read(file)


@pytest.mark.promise(12)
@pytest.mark.case(32)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "shift_jis"])
def test_any_other_encoding_must_be_named(encoding: str) -> None:
    content = (HEADER + f"{ANNE},anne@example.com,{'山田' if encoding == 'shift_jis' else 'Müßig'}\n").encode(encoding)

    assert parse(content, encoding=encoding).users[0].name in {"山田", "Müßig"}
    assert refusal(content)


def test_iso_2022_is_not_taken_for_utf_8() -> None:
    content = (HEADER + f"{ANNE},anne@example.com,山田\n").encode("iso2022_jp")

    assert parse(content, encoding="iso2022_jp").users[0].name == "山田"


@pytest.mark.promise(12)
@pytest.mark.case(32)
@pytest.mark.parametrize("before", [0, 1, 5_000])
def test_an_undecodable_byte_refuses_the_file_and_names_its_line(before: int) -> None:
    error = refusal((HEADER + ROW * before).encode() + f"{BORIS},boris@example.com,Müller\n".encode("cp1252"), max_rows=9_999)

    assert str(error).endswith(f"roster.csv:{before + 2}: a byte here is no UTF-8")
    assert '[roster] encoding = "cp1252"' in error.advice


def test_an_undecodable_byte_of_utf_16_names_its_line_too() -> None:
    content = (HEADER + ROW).encode("utf-16") + b"\x00\xdc\x00\xdc"

    assert message(content) == "roster.csv:3: a byte here is no UTF-16-LE"


def test_a_file_that_ends_inside_a_character_is_refused() -> None:
    assert message((HEADER + ROW).encode() + b"\xc3") == "roster.csv:3: a byte here is no UTF-8"


@pytest.mark.parametrize("encoding", ["latin-17", "hex", "a\0b", "undefined", "idna"])
def test_an_encoding_that_nobody_knows_is_refused(encoding: str) -> None:
    assert "is not known" in str(refusal(HEADER + ROW, encoding=encoding))


# Structure


@pytest.mark.case(32)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("file", [PLAIN, ESIGNATURE, MEMBERSHIPS], ids=lambda path: path.stem)
def test_the_delimiter_comes_from_the_header(file: Path, delimiter: str) -> None:
    text = file.read_text("utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=";" if file is ESIGNATURE else ",")
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter).writerows(rows)

    assert parse(written.getvalue()) == roster.read(file)


def test_a_header_full_of_other_delimiters_misleads_nobody() -> None:
    read = parse(f'user_id,email,"a;b;c;d"\n{ANNE},anne@example.com,1;2;3;4\n')

    assert read.users[0].row["a;b;c;d"] == "1;2;3;4"


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    "row", [f"{BORIS},boris@example.com", f"{BORIS},boris@example.com,Boris,", f"{BORIS},b@example.com,x,y,z"]
)
def test_a_row_of_more_or_fewer_fields_refuses_the_whole_file(row: str) -> None:
    assert message(HEADER + ROW + row + "\n" + ROW) == f"roster.csv:3: {row.count(',') + 1} fields, but the header has 3"


def test_the_line_is_the_physical_one_also_below_line_breaks_in_quotes() -> None:
    broken = f'{ANNE},anne@example.com,"An\nn\r\ne"\n'

    assert [line for line, _ in parse(HEADER + broken + OTHER).rows] == [2, 5]
    assert message(HEADER + broken + "x,y\n") == "roster.csv:5: 2 fields, but the header has 3"


@pytest.mark.promise(12)
@pytest.mark.case(32, 33, 34)
@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f'{ANNE},anne@example.com,"Anne\n{OTHER}', "a quoted field begins here or below and is never closed"),
        (f'{ANNE},anne@example.com,"An"ne\n', "text follows a closing quotation mark"),
        (f"{ANNE},anne@example.com,An\rne\n", "a carriage return stands alone"),
        (f"{ANNE},anne@example.com,{'x' * 140_000}\n", "a field is too long"),
        (f"{ANNE},anne@example.com,An\0ne\n", "a NUL character"),
        (f"{ANNE},anne@example.com,{'x' * 1_100_000}\n", "the line is longer than 1,048,576 characters"),
    ],
)
def test_a_broken_structure_refuses_the_whole_file_with_its_line(row: str, said: str) -> None:
    assert message(HEADER + OTHER + row).startswith(f"roster.csv:3: {said}")


@pytest.mark.case(32)
def test_windows_line_ends_and_a_missing_last_one_are_fine() -> None:
    assert parse((HEADER + ROW + OTHER.strip()).replace("\n", "\r\n")).users == parse(HEADER + ROW + OTHER).users


@pytest.mark.case(32)
@pytest.mark.parametrize("tail", ["\n", "\r\n\r\n", ",,\n , ,\n", "\n,,\n\n", "\n" * 8])
def test_blank_lines_at_the_end_are_no_rows(tail: str) -> None:
    assert parse(HEADER + ROW + tail, max_rows=9) == parse(HEADER + ROW)


def test_an_empty_line_between_the_rows_is_a_row_of_too_few_fields() -> None:
    assert message(HEADER + ROW + "\n" + OTHER) == "roster.csv:3: an empty line between the rows"


def test_a_row_of_empty_cells_between_the_rows_is_rejected() -> None:
    assert reason(",,") == "user_id is empty; email is empty"


@pytest.mark.case(34)
def test_a_file_longer_than_max_rows_is_refused_at_the_first_row_too_many() -> None:
    assert len(parse(HEADER + ROW * 9 + "\n,,\n", max_rows=9).rows) == 9
    assert message(HEADER + ROW * 11) == "roster.csv:11: more than 9 rows"
    assert message(HEADER + ROW + "\n" * 20) == "roster.csv:11: more than 9 rows"


@pytest.mark.parametrize("content", ["", "\n", "\n" + HEADER + ROW, b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_file_without_header_is_refused(content: str | bytes) -> None:
    assert message(content) == "roster.csv:1: the first line is empty; it must be the header"


@pytest.mark.parametrize("content", [HEADER, HEADER.strip(), HEADER + "\n,,\n"])
def test_a_header_alone_is_refused(content: str) -> None:
    assert message(content) == "roster.csv: the roster has no rows"


def test_a_roster_that_is_no_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "roster.csv")

    with pytest.raises(RosterError, match="not a plain file"):
        roster.read(tmp_path / "roster.csv")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(RosterError, match="cannot be read"):
            roster.read(path)


# The time zone, of which only the doctor has an opinion


def roster_line(world: World, *zones: str) -> Check:
    world.roster({"user_id": user_id(n), "email": email(n), "timezone": zone} for n, zone in enumerate(zones))
    return next(people(world.config(), world.means()))


def test_the_doctor_counts_the_rows_whose_time_zone_is_not_understood(tmp_path: Path) -> None:
    with World(tmp_path, keys={"policy": {"timezone": "Europe/Berlin"}}) as world:
        fine = roster_line(world, "Europe/Berlin", "", "UTC", "America/Argentina/Buenos_Aires")
        doubtful = roster_line(world, "Europe/Berlin", "PST", "", "tz_05_pacific_time", "europe/berlin")
    found = '3 of the rows have a time zone that is not understood, the first: line 3: "PST"'

    assert (fine.grade, fine.advice) == (Grade.GOOD, "")
    assert doubtful.grade is Grade.DOUBT
    assert doubtful.found.endswith(f"5 rows and 5 users; {found}")
    assert "Europe/Berlin is taken" in doubtful.advice


def test_the_doctor_tells_of_rejected_rows_and_of_time_zones_together(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.roster(
            [
                {"user_id": user_id(1), "email": "nonsense", "timezone": "PST"},
                {"user_id": user_id(2), "email": email(2), "timezone": "CEST"},
            ]
        )
        line = next(people(world.config(), world.means()))

    assert "1 of the rows cannot be used: line 2" in line.found
    assert '1 of the rows have a time zone that is not understood, the first: line 3: "CEST"' in line.found


# The header


@pytest.mark.parametrize(
    "header", ["USER_ID,E-Mail,Full Name", " User Id , e_mail ,NAME", "ApiUserName,Mail,UserName", "user_guid,UserEmail,fullname"]
)
def test_headers_are_matched_without_case_spaces_underscores_and_hyphens(header: str) -> None:
    user = parse(f"{header}\n{ROW}").users[0]

    assert (user.user_id, user.email, user.name) == (ANNE, "anne@example.com", "Anne")


def test_every_optional_column_is_read() -> None:
    header = "user_id,email,first_name,last_name,locale,timezone,department,manager_email,wave,status\n"
    user = parse(header + f"{ANNE},anne@example.com,Anne,Ng,de-CH,Europe/Zurich,Sales,boss@example.com,7,Active\n").users[0]

    assert (user.first_name, user.last_name, user.locale, user.timezone) == ("Anne", "Ng", "de-CH", "Europe/Zurich")
    assert (user.department, user.manager_email, user.wave, user.closed) == ("Sales", "boss@example.com", 7, False)


def test_every_other_column_is_kept_to_the_letter() -> None:
    user = parse(f"Kostenstelle,user_id,email,\n 0012 ,{ANNE},anne@example.com,x\n").users[0]

    assert user.row == {"Kostenstelle": " 0012 ", "user_id": ANNE, "email": "anne@example.com", "column 4": "x"}


def test_the_name_is_made_of_first_and_last_where_there_is_none() -> None:
    header = "user_id,email,first_name,last_name\n"

    assert parse(header + f"{ANNE},anne@example.com,Anne,Ng\n").users[0].name == "Anne Ng"
    assert parse(header + f"{ANNE},anne@example.com,Anne,\n").users[0].name == "Anne"


def test_columns_name_a_header_that_is_not_recognised() -> None:
    read = parse(f"Docusign ID,Work,email\n{ANNE},anne@example.com,home\n", columns={"user_id": "Docusign ID", "email": "work"})

    assert read.users[0].email == "anne@example.com"
    assert read.users[0].row["email"] == "home"


def test_columns_help_to_find_the_delimiter() -> None:
    read = parse(f"Kennung;Post, privat\n{ANNE};anne@example.com\n", columns={"user_id": "Kennung", "email": "Post, privat"})

    assert read.users[0].email == "anne@example.com"


def test_columns_settle_which_of_two_is_meant() -> None:
    content = f"user_id,email,UserEmail\n{ANNE},anne@example.com,other@example.com\n"

    assert message(content) == 'roster.csv:1: "email", "UserEmail" all mean email'
    assert parse(content, columns={"email": "UserEmail"}).users[0].email == "other@example.com"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"name": "Nom"}, 'roster.csv:1: no column "Nom", which [roster.columns] name names'),
        ({"nom": "name"}, "[roster.columns] nom is no column of ours"),
        ({"name": "email", "email": "email"}, "roster.csv:1: [roster.columns] email and name name the same column"),
    ],
)
def test_columns_that_fit_nothing_are_refused(columns: dict[str, str], said: str) -> None:
    assert message(HEADER + ROW, columns=columns) == said


@pytest.mark.parametrize(
    ("header", "ours"),
    [("user_id,email,Email", "email"), ("user_id,email,User ID", "user_id"), ("user_id,email,status,Status", "status")],
)
def test_a_column_that_stands_twice_is_refused(header: str, ours: str) -> None:
    assert message(header + "\n" + ROW).endswith(f"all mean {ours}")


def test_columns_that_mean_nothing_to_us_may_repeat() -> None:
    header = parse(f"user_id,email,Group,Group.2,Group,Group\n{ANNE},anne@example.com,a,b,c,d\n").users[0].header

    assert header == ("user_id", "email", "Group", "Group.2", "Group.3", "Group.4")


def test_a_bulk_add_file_is_refused_saying_so() -> None:
    error = refusal("UserName,UserEmail,PermissionSet,Group\nAnne,anne@example.com,DS Sender,Everyone\n")

    assert "this is a bulk-add file: it has no user ids" in str(error)
    assert "memberships export" in error.advice


@pytest.mark.parametrize(
    ("header", "ours", "near"),
    [
        ("user idd,email,name", "user_id", "user idd"),
        ("APIUserNam,UserEmail", "user_id", "APIUserNam"),
        ("user_id,emial", "email", "emial"),
    ],
)
def test_a_missing_column_names_the_header_that_may_be_meant(header: str, ours: str, near: str) -> None:
    error = refusal(f"{header}\n")

    assert str(error).endswith(f"roster.csv:1: no column for {ours}")
    assert f'[roster.columns] {ours} = "{near}"' in error.advice


def test_a_missing_column_without_a_likeness_lists_what_the_file_has() -> None:
    assert '"Telefon", "Ort"' in refusal("Telefon,Ort\n1,2\n").advice


@pytest.mark.parametrize("header", ['user_id,email,"First\nName"', "user_id,email,na\u202eme", "user_id,email,\u200bname"])
def test_a_header_with_hidden_characters_is_refused(header: str) -> None:
    assert message(header + "\n" + ROW).startswith("roster.csv:1: the header ")


def test_a_thousand_columns_are_enough() -> None:
    assert message("user_id,email," + "," * 1_000 + "\n") == "roster.csv:1: 1,003 columns, more than 1,000"


# Rows that are rejected, while the rest goes on


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    "user_id",
    ["", "7", ANNE[:-1], ANNE + "0", ANNE.replace("-", ""), "{" + ANNE + "}", ANNE.replace("8d", "8g"), f"urn:uuid:{ANNE}"],
)
def test_an_id_that_is_no_guid_rejects_the_row(user_id: str) -> None:
    assert reason(f"{user_id},anne@example.com,Anne") == ("user_id is not a GUID" if user_id else "user_id is empty")


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    "email",
    [
        *("", "anne", "anne@", "@example.com", "anne@example", "anne@@example.com", "a b@example.com", "anne@exa mple.com"),
        *(
            "Anne <anne@example.com>",
            "anne@[127.0.0.1]",
            "anne@example.com;boris@example.com",
            "anne@-x.example",
            ".anne@example.com",
        ),
        *(
            "anne@localhost",
            "anne@printer.local",
            "anne@example.123",
            "mailto:anne@example.com@",
            f"anne@{'x' * 64}.example",
            f"{'x' * 300}@example.com",
        ),
    ],
)
def test_a_bad_address_rejects_the_row(email: str) -> None:
    assert reason(f'{ANNE},"{email}",Anne').startswith("email is ")


@pytest.mark.parametrize(
    "email",
    [
        "anne@example.com",
        "o'neil+x@sub.example.org",
        "A.B@EXAMPLE.NET",
        "x@y--z.test",
        "x@y.test",
        "a--b@xn--bcher-kva.example",
        "7@b-c.example",
    ],
)
def test_reserved_domains_are_good_addresses_and_the_cell_stays_as_it_is(email: str) -> None:
    user = parse(HEADER + f"{ANNE}, {email} ,Anne\n").users[0]

    assert (user.email, user.recipient) == (email, email)


@pytest.mark.case(13)
def test_an_internationalised_domain_is_mailed_by_its_a_labels() -> None:
    user = parse(f"user_id,email,manager_email\n{ANNE},Anne@BÜCHER.example,boss@bücher.example\n").users[0]

    assert (user.email, user.recipient) == ("Anne@BÜCHER.example", "Anne@xn--bcher-kva.example")
    assert user.manager_email == "boss@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("email", "recipient"),
    [
        ("Änne@example.com", "Änne@example.com"),
        ("A\u0308nne@BÜCHER.example", "Änne@xn--bcher-kva.example"),
        ("用户@例子.test", "用户@xn--fsqu00a.test"),
        ("Info.é@EXAMPLE.com", "Info.é@example.com"),
        ("é" * 32 + "@example.com", "é" * 32 + "@example.com"),
    ],
)
def test_a_local_part_beyond_ascii_is_mailed_to_the_letter(email: str, recipient: str) -> None:
    user = parse(f"user_id,email,manager_email\n{ANNE},{email},{email}\n").users[0]

    assert (user.email, user.recipient, user.manager_email) == (email, recipient, recipient)


@pytest.mark.parametrize(
    ("email", "why"),
    [
        ("än\u200bne@example.com", "holds U+200B (zero width space)"),
        ("än\u202ene@example.com", "holds U+202E (right-to-left override)"),
        ("än\x1bne@example.com", "holds U+001B (a control character)"),
        ("\u0301nne@example.com", "is not a usable address"),
        ("än\u00a0ne@example.com", "is not a usable address"),
        ("än\ue000ne@example.com", "is not a usable address"),
        ("änne..a@example.com", "is not a usable address"),
        ('"än ne"@example.com', "is not a usable address"),
        ("é" * 33 + "@example.com", "is not a usable address: The part before the @-sign is longer than 64 octets"),
    ],
)
def test_what_is_hidden_or_no_address_is_refused_beyond_ascii_too(email: str, why: str) -> None:
    quoted = email.replace('"', '""')

    assert reason(f'{ANNE},"{quoted}",Anne').startswith(f"email {why}")


@pytest.mark.promise(12)
@pytest.mark.case(33)
@pytest.mark.parametrize(
    "code",
    [
        0x01,
        0x09,
        0x0A,
        0x1B,
        0x7F,
        0x85,
        0x200B,
        0x200C,
        0x200D,
        0x200E,
        0x200F,
        *range(0x2028, 0x202F),
        0x2060,
        *range(0x2066, 0x206A),
        0xFEFF,
    ],
)
@pytest.mark.parametrize("place", range(4))
def test_hidden_characters_in_any_field_reject_the_row(code: int, place: int) -> None:
    cells = [ANNE, "anne@example.com", "Anne", "anything"]
    cells[place] = f'"{cells[place][:2]}{chr(code)}{cells[place][2:]}"'

    assert f"{['user_id', 'email', 'name', 'free'][place]} holds U+{code:04X} (" in reason(
        ",".join(cells), "user_id,email,name,free\n"
    )


def test_a_lone_surrogate_rejects_the_row() -> None:
    content = (HEADER + ROW).encode().replace(b"Anne", rb"An\ud800ne") + OTHER.encode().replace(b"Boris", b"B\xf6ris")
    read = parse(content, encoding="unicode_escape")

    assert read.rejects == (Reject(2, "name holds U+D800 (a control character)", ANNE, "anne@example.com", r"An\ud800ne"),)
    assert read.users[0].name == "Böris"


def test_visible_unicode_is_welcome() -> None:
    assert reason(f"{ANNE},anne@example.com,Zoë\u00a0山田 👩 Παππά") == ""


@pytest.mark.case(34)
def test_a_field_of_more_than_320_characters_rejects_the_row() -> None:
    assert reason(f"{ANNE},anne@example.com,{'x' * 320}") == ""
    assert reason(f"{ANNE},anne@example.com,{'x' * 321}") == "name is longer than 320 characters"
    assert reason(f"{ANNE},{'x' * 9_000}@example.com,Anne") == "email is longer than 320 characters"


def test_a_column_of_the_files_own_may_be_long() -> None:
    assert reason(f"{ANNE},anne@example.com,Anne,{'x' * 5_000}", "user_id,email,name,note\n") == ""


@pytest.mark.parametrize(("wave", "read"), [("", 0), ("0", 0), ("12", 12), ("-3", -3), (" 4 ", 4)])
def test_wave_is_a_whole_number(wave: str, read: int) -> None:
    assert parse(f"user_id,email,wave\n{ANNE},anne@example.com,{wave}\n").users[0].wave == read


@pytest.mark.parametrize("wave", ["one", "1.0", "1e3", "٣", "1 2", "9" * 10, "NaN"])
def test_a_wave_that_is_none_rejects_the_row(wave: str) -> None:
    read = parse(f"user_id,email,wave\n{ANNE},anne@example.com,{wave}\n")

    assert read.rejects[0].reason == f'wave is not a whole number: "{wave}"'


@pytest.mark.parametrize("name", ["http://x.example", "see WWW.x.example", "Anne https://x"])
@pytest.mark.parametrize("column", ["name", "first_name", "last_name"])
def test_a_name_that_holds_a_link_rejects_the_row(name: str, column: str) -> None:
    read = parse(f"user_id,email,{column}\n{ANNE},anne@example.com,{name}\n")

    assert [reject.reason for reject in read.rejects] == [f"{column} holds a link"]


def test_a_bad_manager_address_rejects_the_row() -> None:
    read = parse(f"user_id,email,manager_email\n{ANNE},anne@example.com,boss\n{BORIS},boris@example.com,\n")

    assert [(reject.line, reject.reason[:36]) for reject in read.rejects] == [(2, "manager_email is not a usable addres")]
    assert read.users[0].manager_email == ""


def test_all_that_is_wrong_with_a_row_is_said_at_once() -> None:
    assert (
        reason("7,anne,www.x")
        == "user_id is not a GUID; email is not a usable address: An email address must have an @-sign; name holds a link"
    )


@pytest.mark.case(33)
def test_what_a_reject_shows_is_printable_and_short() -> None:
    reject = parse(HEADER + f'{ANNE},anne@example.com,"\u202eA\x1b[2J\n{"x" * 400}"\n').rejects[0]

    assert reject.name.startswith(r"\u202eA\x1b[2J\nxxx")
    assert reject.name.isprintable()
    assert len(reject.name) == 300


# Several rows of one user


@pytest.mark.case(35)
def test_rows_that_agree_are_one_user_of_the_first_line() -> None:
    read = parse(HEADER + ROW + OTHER + ROW.replace(ANNE, ANNE.upper()).replace("anne@", "Anne@"))

    assert [user.line for user in read.users] == [2, 3]
    assert read.rows[2] == (4, read.users[0])
    assert read.rows[2][1] is read.users[0]


@pytest.mark.promise(12)
@pytest.mark.case(35)
def test_conflicting_rows_are_all_rejected_with_each_others_line() -> None:
    read = parse(HEADER + ROW + OTHER + ROW + ROW.replace("anne@", "ann@") + ROW.replace("Anne", "Ann"))

    assert [user.user_id for user in read.users] == [BORIS]
    assert [(reject.line, reject.reason) for reject in read.rejects] == [
        (2, "conflicts with line 5 of the same user id: another email"),
        (4, "conflicts with line 5 of the same user id: another email"),
        (5, "conflicts with line 2 of the same user id: another email"),
        (6, "conflicts with line 2 of the same user id: another name"),
    ]


@pytest.mark.parametrize("column", ["name", "first_name", "last_name", "locale", "timezone", "manager_email", "wave"])
def test_what_concerns_the_mail_must_agree(column: str) -> None:
    one, other = {"manager_email": ("a@example.com", "b@example.com"), "wave": ("1", "2")}.get(column, ("a", "b"))
    read = parse(f"user_id,email,{column}\n{ANNE},anne@example.com,{one}\n{ANNE},anne@example.com,{other}\n")

    assert len(read.rejects) == 2
    assert column in read.rejects[0].reason


def test_what_belongs_to_the_membership_may_differ() -> None:
    read = parse(f"user_id,email,department,AccountID\n{ANNE},anne@example.com,a,1\n{ANNE},anne@example.com,b,2\n")

    assert [(user.department, user.row["AccountID"]) for user in read.users] == [("a", "1")]


def test_a_rejected_row_says_nothing_about_the_users_other_row() -> None:
    read = parse(HEADER + ROW + f"{ANNE},anne@,Anne\n")

    assert ([user.line for user in read.users], [reject.line for reject in read.rejects]) == ([2], [3])


@pytest.mark.case(35)
def test_one_address_under_two_user_ids_is_two_users() -> None:
    assert len(parse(HEADER + ROW + ROW.replace(ANNE, BORIS)).users) == 2


@pytest.mark.parametrize(
    ("statuses", "closed"), [(("Closed", "active"), False), (("active", "closed"), False), (("closed", " CLOSED "), True)]
)
def test_a_user_is_closed_if_every_row_is(statuses: tuple[str, str], closed: bool) -> None:
    read = parse("user_id,email,status\n" + "".join(f"{ANNE},anne@example.com,{status}\n" for status in statuses))

    assert [user.closed for user in read.users] == [closed]


@pytest.mark.parametrize(("user", "membership"), [("closed", "active"), ("active", "Closed"), ("closed", "closed")])
def test_a_row_is_closed_if_either_status_is(user: str, membership: str) -> None:
    assert parse(f"user_id,email,UserStatus,MembershipStatus\n{ANNE},anne@example.com,{user},{membership}\n").users[0].closed


def test_a_pending_user_is_not_closed() -> None:
    assert not parse(f"user_id,email,status\n{ANNE},anne@example.com,Pending\n").users[0].closed


# Properties


NASTY = st.text("\n\r\t,;\"'\0\ufeff\u202eaä@.-= 1", max_size=12)
LINES = st.lists(st.one_of(st.just(ROW), st.just(OTHER), NASTY, st.just("\n"), st.just(",,\n")), max_size=6).map("".join)
ENCODINGS = st.sampled_from(["", "cp1252", "utf-16", "utf-16-le", "utf-7", "shift_jis", "idna", "punycode", "utf-8-sig"])


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(st.binary(max_size=80), LINES.map(str.encode), LINES.map(lambda text: (HEADER + text).encode())),
    st.binary(max_size=3),
    ENCODINGS,
)
def test_any_bytes_are_a_roster_or_a_roster_error(content: bytes, noise: bytes, encoding: str) -> None:
    with suppress(RosterError):
        read = parse(content + noise, encoding=encoding, max_rows=5)

        assert len(read.rows) <= 5
        assert all(checks.HIDDEN.search("".join(user.cells)) is None for user in read.users)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.text('ab,"\n ;x', max_size=4), min_size=1, max_size=5), min_size=1, max_size=6))
def test_no_row_is_ever_shifted(rows: list[list[str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["user_id", "email", "one", "two"], *([ANNE, "anne@example.com", *row] for row in rows)])
    try:
        read = parse(written.getvalue())
    except RosterError:
        assert any(len(row) != 2 for row in rows)
    else:
        shown = [what for _, what in read.rows]
        assert all(len(row) == 2 for row in rows)
        assert all(isinstance(what, User) is ("\n" not in "".join(row)) for what, row in zip(shown, rows, strict=True))
        assert [user.cells[2:] for user in read.users] == [tuple(row) for row in rows if "\n" not in "".join(row)][:1]


LETTERS = st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="/")
VISIBLE = st.text(LETTERS, max_size=9).filter(lambda text: "www." not in text.casefold())
LOCAL = st.text("az09_+-", min_size=1, max_size=9)
PERSON = st.tuples(
    st.uuids(), LOCAL.map(lambda local: f"{local}@example.com"), VISIBLE.map(lambda text: text.strip(" ")), VISIBLE
)


@settings(deadline=None, max_examples=1_000)
@given(
    st.lists(PERSON, min_size=1, max_size=3, unique_by=lambda person: person[0]),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_was_written_is_what_is_read(people: list[tuple[UUID, str, str, str]], delimiter: str, encoding: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter).writerows([("user_id", "email", "name", "note"), *people])
    read = parse(written.getvalue().encode(encoding))

    assert read.rejects == ()
    assert [(user.user_id, user.email, user.name, user.row["note"]) for user in read.users] == [
        (str(one), *rest) for one, *rest in people
    ]


ATOMS = st.lists(st.text("aZ09!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=40), min_size=1, max_size=3).map(".".join)
LABELS = st.lists(st.text("axnXN09-", min_size=1, max_size=30), min_size=1, max_size=4).map(".".join)
TAILS = st.sampled_from(
    ["com", "test", "example", "local", "LOCALHOST", "arpa", "Invalid", "onion", "c0m", "x", "xn--p1ai", "com\n", "com."]
)


@settings(deadline=None, max_examples=500)
@given(ATOMS, LABELS, TAILS)
def test_the_quick_look_at_an_address_accepts_nothing_that_email_validator_refuses(local: str, labels: str, tail: str) -> None:
    address = f"{local}@{labels}.{tail}"
    if checks.PLAIN.fullmatch(address):
        checked = validate_email(address, check_deliverability=False, test_environment=True, allow_smtputf8=False)

        assert checked.ascii_domain == f"{labels}.{tail}".lower()


@settings(deadline=None, max_examples=500)
@given(
    st.text("aZ0.-@'+xn\n _", min_size=3, max_size=30),
    st.sampled_from(["", ".com", ".LOCAL", ".arpa", ".Invalid", "\n", ".xn--p1ai"]),
)
def test_nor_does_it_on_near_misses(address: str, tail: str) -> None:
    if checks.PLAIN.fullmatch(address + tail):
        assert validate_email(address + tail, check_deliverability=False, test_environment=True).ascii_email


def test_rows_are_checked_in_chunks_and_none_is_lost_between_them() -> None:
    people = [(str(UUID(int=number, version=4)), f"user{number}@example.com", f"Name {number}") for number in range(1, 40_001)]
    read = parse(HEADER + "".join(",".join(person) + "\n" for person in people) + ",,\n" * 30_000)

    assert [(user.user_id, user.email, user.name) for user in read.users] == people
    assert [line for line, _ in read.rows] == list(range(2, 40_002))


def test_blank_rows_between_the_rows_are_not_lost_between_chunks_either() -> None:
    read = parse(HEADER + ROW + ",,\n" * 20_000 + OTHER)

    assert [reject.line for reject in read.rejects] == list(range(3, 20_003))
    assert [user.line for user in read.users] == [2, 20_003]


def test_equal_cells_and_the_header_share_their_memory() -> None:
    one, two = parse(f"user_id,email,department\n{ANNE},anne@example.com,Sales\n{BORIS},boris@example.com,Sales\n").users

    assert one.header is two.header
    assert one.department is two.department is one.cells[2]
    assert one.email is one.recipient is one.cells[1]


def test_the_collector_of_garbage_is_left_as_it_was_found() -> None:
    assert gc.isenabled()
    refusal("")
    parse(HEADER + ROW)

    assert gc.isenabled()
