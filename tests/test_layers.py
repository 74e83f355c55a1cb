"""The shape of the house: imports point down, stages do not know one another, and what decides does no I/O."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "campaign"

# From the ground up. A module imports only what stands on a lower floor, or in its own room (a folder).
FLOORS = [
    ["errors"],
    ["model", "domains", "files", "bounded", "pace", "stopping", "crash", "outlets"],
    ["config", "words", "tls", "keys"],
    ["https", "customers"],
    ["roster", "docusign", "guards", "plan", "message", "mailer", "ledger", "report", "sasl", "bounces"],
    ["given"],
    ["night"],
    ["rehearsing"],
    ["probing", "handover"],
    ["advice", "outlook"],
    ["reporting"],
    ["nightly", "layout", "showing", "monitoring"],
    ["explaining"],
    ["previewing", "pages", "orders", "moving", "returning", "forgetting"],
    ["doctor", "diagnosing", "pulling"],
    ["sandbox"],
    ["cli"],
    ["__main__"],
]
STAGES = {"roster", "docusign", "guards", "plan", "message", "mailer", "ledger", "report", "sasl", "bounces"}
MESSAGE = ["message.lint", "message.doubts", "message.flowing", "message.languages"]
PURE = ["guards", "plan", "model", "errors", *MESSAGE, "diagnosing.causes", "outlook.nights"]
IMPURE = {"os", "socket", "pathlib", "time", "sqlite3", "requests", "smtplib", "subprocess", "random", "secrets", "tempfile"}


@cache
def modules() -> dict[str, Path]:
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imports(path: Path) -> set[str]:
    """Every module named in an import, wherever it stands, but for those that only the type checker reads."""
    names: set[str] = set()
    for node in _run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _run_time(tree: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        found += [node, *_run_time(node)]
    return found


def own_imports(path: Path) -> set[str]:
    rooms = {room(module) for module in modules()}
    named = {name.split(".")[1] for name in imports(path) if name.startswith("campaign.")}
    return named & rooms


def file_of(name: str) -> str:
    """The module of ours that an imported name lies in: `campaign.ledger.book.Ledger` is in `ledger.book.__init__`."""
    _, *parts = name.split(".")
    tried = (".".join([*parts[:end], *more]) for end in range(len(parts), 0, -1) for more in ((), ("__init__",)))
    return next((module for module in tried if module in modules()), "__init__")


def test_every_room_has_its_floor() -> None:
    placed = [name for floor in FLOORS for name in floor]

    assert sorted(placed) == sorted({room(module) for module in modules()} - {"__init__"})


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    floor_of = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    here = room(module)
    above = {name for name in own_imports(modules()[module]) - {here} if floor_of[name] >= floor_of.get(here, -1)}

    assert above == set()


@pytest.mark.parametrize("here", sorted({room(module) for module in modules()}))
def test_no_two_files_of_a_room_need_each_other(here: str) -> None:
    own = {module: imports(path) for module, path in modules().items() if room(module) == here}
    needs = {module: {file_of(name) for name in named if name.startswith("campaign.")} for module, named in own.items()}

    TopologicalSorter(needs).prepare()  # raises CycleError, which tells the cycle


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_do_not_know_one_another(stage: str) -> None:
    known = {name for module, path in modules().items() if room(module) == stage for name in own_imports(path)}

    assert known & (STAGES - {stage}) == set()


@pytest.mark.parametrize("module", PURE)
def test_what_decides_does_no_input_or_output_and_reads_no_clock(module: str) -> None:
    path = modules()[module]
    named = {name.split(".")[0] for name in imports(path)}

    assert named & IMPURE == set()
    assert ".now(" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("module", sorted(module for module in modules() if room(module) != "cli"))
def test_only_the_command_line_prints_exits_and_reads_the_environment(module: str) -> None:
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    read = {f"{n.value.id}.{n.attr}" for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}

    assert called & {"print", "exit"} == set()
    assert read & {"os.environ", "os.getenv", "sys.exit", "sys.argv"} == set()
