"""What holds for the whole project."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONTRACT, ROOT, clean_environ

from azure_auth import errors
from azure_auth.error_texts import ERROR_TEXTS

APP = sorted((ROOT / "azure_auth").rglob("*.py"))
BASE = ["errors", "error_texts", "bounds", "return_target"]
ROOMS: dict[str, tuple[list[str], set[str]]] = {
    "error_texts": ([], set()),
    "errors": (["error_texts"], set()),
    "bounds": ([], set()),
    "return_target": ([], set()),
    "logs": (["bounds"], {"redis"}),
    "audit_output": (["bounds"], set()),
    "audit": (["audit_output", "bounds", "logs"], set()),
    "settings": (BASE, {"cryptography"}),
    "reflex_build": (["bounds", "errors", "settings"], {"reflex", "reflex_base", "granian", "dotenv"}),
    "auth.identity": ([], set()),
    "auth.policy": (["auth.identity"], {"starlette"}),
    "auth.entra": ([*BASE, "settings", "auth.identity"], {"msal", "httpx", "jwt", "cryptography"}),
    "auth.sessions": ([*BASE, "audit", "settings", "auth.identity"], {"cryptography", "redis", "typing_extensions"}),
    "auth.cookies": ([*BASE, "auth.sessions"], {"starlette"}),
    "auth.redemption": ([*BASE, "auth.identity", "auth.entra", "auth.sessions", "auth.cookies"], set()),
    "auth.sign_in_limits": ([*BASE, "audit", "auth.sessions", "auth.cookies"], set()),
    "auth.sign_in": (
        [
            *BASE,
            "audit",
            "settings",
            "auth.identity",
            "auth.entra",
            "auth.sessions",
            "auth.cookies",
            "auth.redemption",
            "auth.sign_in_limits",
        ],
        set(),
    ),
    "auth.web": (
        [*BASE, "audit", "settings", "auth.policy", "auth.sessions", "auth.cookies", "auth.sign_in"],
        {"starlette", "python_multipart"},
    ),
    "auth.gate": (
        [*BASE, "audit", "auth.policy", "auth.sessions", "auth.cookies", "auth.sign_in", "auth.web"],
        {"starlette", "redis", "reflex", "reflex_base", "reflex_components_core", "socketio", "engineio"},
    ),
    "auth.core": ([*BASE, "auth.identity", "auth.policy", "auth.sign_in", "auth.gate"], {"reflex"}),
    "auth.composition": (["audit", "logs", "settings", "reflex_build", "auth"], {"reflex", "starlette", "httpx"}),
    "auth": (["auth"], set()),
    "components": (["auth"], {"reflex"}),
    "pages": (["auth", "components"], {"reflex"}),
    "azure_auth": (["errors", "settings", "auth", "components", "demo", "pages"], {"reflex", "starlette"}),
}
"""Each room, from the lowest to the highest: what it may import of ours and of libraries, besides itself.

`auth.composition` has httpx for the type of a transport alone.
"""


PLACES = ["azure_auth/auth", "azure_auth", "."]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_in(name: str, room: str) -> bool:
    return f"{name}.".startswith(f"azure_auth.{room}.")


def room_of(name: str) -> str:
    return max((room for room in ROOMS if is_in(name, room)), key=len)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, also within functions; a name that is a module counts as one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()}
            modules |= {name for name in names if (ROOT / name.replace(".", "/")).is_dir()}
            found |= modules if len(modules) == len(names) else {node.module, *modules}
    return found


@pytest.mark.parametrize(
    "path", [p for p in APP if "demo" not in p.parts and p != ROOT / "azure_auth/__init__.py"], ids=module
)
def test_a_room_imports_what_is_on_its_list(path):
    """Its own modules, the rooms and the libraries that are listed for it, and Python's."""
    room = room_of(module(path))
    rooms, libraries = ROOMS[room]
    for name in imports(path):
        library = name.partition(".")[0]
        if library == "azure_auth":
            assert any(is_in(name, other) for other in [*rooms, room]), name
        else:
            assert library in libraries or library in sys.stdlib_module_names, name


def test_rooms_have_no_circles():
    """A room imports rooms that stand before it. What `auth` itself offers is imported by those above it alone."""
    order = list(ROOMS)
    for room, (rooms, _) in ROOMS.items():
        for other in set(rooms) - {"auth", "demo"}:
            assert order.index(other) < order.index(room), (room, other)


def test_the_demo_imports_nothing_of_ours():
    """It stands for Microsoft, and Microsoft has none of our code."""
    for path in (ROOT / "azure_auth/demo").glob("*.py"):
        assert not any(is_in(name, room) for name in imports(path) for room in ROOMS), path.name


@pytest.mark.parametrize("path", APP, ids=module)
def test_a_long_module_says_why(path):
    """Above 200 lines a module's docstring has the reason."""
    text = path.read_text()
    if text.count("\n") > 200:
        assert "200 lines" in (ast.get_docstring(ast.parse(text)) or "").replace("\n", " "), module(path)


def test_importing_does_nothing():
    """No module reads the environment, a file or the network at import; what Reflex starts with is the exception."""
    names = [module(path) for path in APP if path.stem not in ("__main__", "azure_auth")]
    script = f"""
import sys
import reflex, httpx, msal, jwt, starlette.responses, starlette.applications, reflex.vars

def watch(event, args):
    opened = event == "open" and str(args[0]).endswith((".env", ".pem", ".db"))
    if event.startswith("socket.") or event == "subprocess.Popen" or opened:
        raise SystemExit(f"{{event}} {{args}}")

sys.addaudithook(watch)
import {", ".join(names)}
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_settings_read_the_environment():
    """`os.environ` is named where the app is composed, and nowhere below."""
    readers = {module(path) for path in APP if re.search(r"\bos\.environ|getenv", path.read_text())}
    assert readers <= {"azure_auth.azure_auth", "azure_auth.demo.__main__"}


@pytest.mark.parametrize("name", CONTRACT)
def test_every_setting_is_documented(name):
    """Each name of the contract is in .env.example, with a comment above it, and in README."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(f"#{name}="))
    assert any(line.startswith("# ") for line in lines[max(0, place - 2) : place])
    assert f"`{name}`" in (ROOT / "README.md").read_text()


def test_errors_are_complete_and_distinct():
    """Every error that a person can meet has its own code, heading and message."""

    def leaves(error: type) -> list[type]:
        return [error, *(leaf for sub in error.__subclasses__() for leaf in leaves(sub))]

    codes = [error.code for error in leaves(errors.AuthError)[1:]]
    assert len(set(codes)) == len(codes)
    refusals = {code for code, text in ERROR_TEXTS.items() if text.numbers}
    assert {*codes} | refusals == {*ERROR_TEXTS}
    assert not {*codes} & refusals
    for part in ("heading", "message"):
        texts = [getattr(text, part) for text in ERROR_TEXTS.values()]
        assert all(texts), part
        assert len(set(texts)) == len(texts), part


def test_every_test_states_its_claim():
    """A test's docstring is a sentence."""
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert (ast.get_docstring(node) or "").endswith("."), f"{path.name}: {node.name}"


def test_what_is_imported_is_pinned():
    """Every imported library has its line in requirements.txt, with an exact version, and its word in README."""
    pins = dict(
        re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)(?:; .*)?$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    )
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(pins) == len(lines)
    distributions = {"jwt": "PyJWT", "dotenv": "python-dotenv", "axe_playwright_python": "axe-playwright-python"}
    distributions |= {"python_multipart": "python-multipart", "socketio": "python-socketio"}
    distributions["typing_extensions"] = "typing-extensions"
    imported: set[str] = set()
    tests = [*(ROOT / "tests").rglob("*.py")]
    for path in [*APP, *tests, ROOT / "rxconfig.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    ours = {"azure_auth", "rxconfig", "reflex_base", "reflex_components_core", *(path.stem for path in tests)}
    libraries = imported - set(sys.stdlib_module_names) - ours
    assert {distributions.get(name, name) for name in libraries} <= set(pins)
    readme = (ROOT / "README.md").read_text()
    assert [name for name in pins if f"`{name}`" not in readme] == []


def test_name_and_colour_come_from_one_place():
    """Pages and components take both from `components/brand.py`, so a company changes them there and nowhere else."""
    from azure_auth.components.brand import APP_NAME

    for path in APP:
        if path.name != "brand.py" and "demo" not in path.parts:
            assert not re.search(rf"#[0-9a-fA-F]{{6}}|{APP_NAME}", path.read_text()), path.name


def test_the_top_level_stays_small():
    """What git tracks at the top is what the design names."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    source = {"azure_auth", "assets", "tests", "rxconfig.py", "requirements.txt", ".env.example", "README.md"}
    tools = {"pyproject.toml", ".ci", "reflex.lock", "docs", ".gitignore"}
    assert {Path(name).parts[0] for name in tracked} <= source | tools


def test_the_names_of_the_blog_post_are_there():
    """`auth_view` and `unauth_view` are functions; the state has the post's names."""
    home = importlib.import_module("azure_auth.pages.home")
    core = importlib.import_module("azure_auth.auth.core")
    assert callable(home.auth_view)
    assert callable(home.unauth_view)
    assert {"require_auth", "callback", "logout", "check_auth", "token"} <= set(dir(core.State))


def test_the_security_document_names_tests_that_exist():
    """Each row of the checklist is there, once, with a test or the reason why there is none; all tests exist."""
    rows = [line.split("|") for line in (ROOT / "docs/security.md").read_text().splitlines() if line.startswith("| C")]
    assert [row[1].strip() for row in rows] == [f"C{number:02}" for number in range(1, 48)]
    for _, name, how, shown, _ in rows:
        assert "::" in shown or re.match(r" (Not ours|Not yet|Later): ", how), name
    for file, test in re.findall(r"`([\w.]+)::(\w+)`", (ROOT / "docs/security.md").read_text()):
        assert re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), test


def test_readme_says_where_everything_is():
    """Each file that README's tree and table name is there, and has the functions that its row names."""
    text = (ROOT / "README.md").read_text().partition("## How it works")[2].partition("\n## ")[0]
    tree, table = text.split("| What happens |")
    for row in table.splitlines():
        names = re.findall(r"`([\w./]+)`", row)
        places = [ROOT / folder / name for name in names if name.endswith(".py") for folder in PLACES]
        files = [place for place in places if place.is_file()]
        assert len(files) == sum(name.endswith(".py") for name in names), row
        source = "".join(file.read_text() for file in files)
        for name in names:
            is_defined = re.search(rf"(def|class) {name}\(|^{name}\b.* = ", source, re.MULTILINE)
            assert "/" in name or "." in name or is_defined, (row, name)
    named = set(re.findall(r"^ +([\w]+\.py|\w+/)", tree, re.MULTILINE)) - {"azure_auth/"}
    there = {path.name + "/" * path.is_dir() for path in (ROOT / "azure_auth").rglob("*")}
    assert named <= there


def test_ci_is_a_script_that_bash_can_read():
    """`.ci/run` takes most of an hour before it reaches its last lines."""
    done = subprocess.run(["bash", "-n", ROOT / ".ci/run"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
