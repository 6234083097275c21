"""The rooms and who may know whom; and what start-up may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import restora

PACKAGE = Path(restora.__file__).parent
# A room may use those before it. `evaluation` stands before `training`, which validates by its protocols.
ROOMS = [
    "errors",
    "io",
    "degradation",
    "networks",
    "solvers",
    "engine",
    "zoo",
    "restorers",
    "jobs",
    "evaluation",
    "training",
    "studio",
    "cli",
]


def imported(file: Path) -> set[str]:
    """Rooms that a file imports anywhere, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: imports are absolute"
            names = [f"restora.{a.name}" for a in node.names] if node.module == "restora" else [node.module]
        rooms |= {n.split(".")[1] for n in names if n.startswith("restora.") and n.count(".")}
    return rooms & set(ROOMS)


@pytest.mark.parametrize(
    "file", [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_upwards(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0]
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    assert imported(file) <= allowed


def test_every_room_says_what_it_is() -> None:
    for init in PACKAGE.glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), init


def loaded_by(code: str) -> set[str]:
    """Modules that a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import restora",
        "import restora; restora.list_models()",
        "from restora.cli import make_app; make_app()",
        "import restora.io",
        "import sys; sys.argv = ['restora', '--help']\nfrom restora.cli import main\ntry: main()\nexcept SystemExit: pass",
    ],
)
def test_start_up_is_light(code: str) -> None:
    assert not loaded_by(code) & {"torch", "cv2", "fastapi", "scipy", "torchvision"}


def test_nothing_needs_torchvision() -> None:
    block = "import sys; sys.modules['torchvision'] = None\n"
    loaded_by(block + "import restora, numpy; restora.load('bicubic')(numpy.zeros((4, 4, 3), numpy.uint8), scale=2)")
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not any(m.split(".")[0] == "torchvision" for m in modules), file
