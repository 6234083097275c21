"""The page's files, read as text: what a browser would only find out when the line is reached."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import restora

PAGE = Path(restora.__file__).parent / "studio" / "page"
MODULES = sorted(PAGE.glob("*.js"))
CODE = {path.name: path.read_text("utf-8") for path in MODULES}
SHEETS = {path.name: path.read_text("utf-8") for path in PAGE.glob("*.css")}
HTML = (PAGE / "index.html").read_text("utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(HTML)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


TAGS = Tags().found


def test_nothing_is_loaded_from_elsewhere() -> None:
    for name, text in {**CODE, **SHEETS, "index.html": HTML}.items():
        outside = [
            url for url in re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s'\"]*", text) if "www.w3.org" not in url
        ]
        assert not outside, f"{name} names {outside}"
        assert "@import" not in text


def test_the_page_obeys_its_content_security_policy() -> None:
    for tag, attributes in TAGS:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
    for name, text in CODE.items():
        for word in ("eval(", "new Function", ".innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
            assert word not in text, f"{name} uses {word}"
        assert not re.search(r"setAttribute\('style'|\bstyle: ['\"`]", text), name


def test_every_import_exists() -> None:
    for name, text in CODE.items():
        for names, source in re.findall(r"import (?:\* as \w+|\{([^}]*)\}) from '\./([\w.]+)'", text):
            assert source in CODE, f"{name} imports {source}"
            for wanted in filter(None, (part.strip().split(" as ")[0] for part in names.split(","))):
                exported = rf"export (?:async )?(?:function\*?|const|let|class) {re.escape(wanted)}\b"
                assert re.search(exported, CODE[source]), f"{name} imports {wanted} of {source}"


def test_every_module_and_sheet_is_used() -> None:
    used = set(re.findall(r"'\./([\w.]+\.js)'", "".join(CODE.values()))) | set(
        re.findall(r'(?:src|href)="([\w.]+)"', HTML)
    )
    assert {path.name for path in PAGE.iterdir() if path.suffix in (".js", ".css")} <= used


def test_every_element_and_drawing_that_is_asked_for_exists() -> None:
    ids = {attributes["id"] for _, attributes in TAGS if "id" in attributes}
    drawings = set(re.findall(r'<symbol id="([\w-]+)"', (PAGE / "icons.svg").read_text("utf-8")))
    for name, text in CODE.items():
        for wanted in re.findall(r"byId\('([\w-]+)'\)", text):
            assert wanted in ids, f"{name} asks for #{wanted}"
        for wanted in re.findall(r"icon: '([\w-]+)'|icon\('([\w-]+)'\)", text):
            assert "".join(wanted) in drawings, f"{name} draws {wanted}"
    for wanted in re.findall(r"icons\.svg#([\w-]+)", HTML):
        assert wanted in drawings
    for _, attributes in TAGS:
        for reference in ("for", "aria-controls", "aria-labelledby"):
            for wanted in (attributes.get(reference) or "").split():
                assert wanted in ids, f"{reference}={wanted}"
    assert len(ids) == len([1 for _, attributes in TAGS if "id" in attributes]), "an id stands twice"


def test_every_colour_that_is_used_is_defined() -> None:
    defined = set(re.findall(r"(--[\w-]+):", SHEETS["base.css"]))
    for name, text in {**SHEETS, **CODE}.items():
        used = set(re.findall(r"var\((--[\w-]+)\)|getPropertyValue\('(--[\w-]+)'\)", text))
        assert {"".join(pair) for pair in used} <= defined, name


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_parse(path: Path) -> None:
    text = path.read_text("utf-8")
    done = subprocess.run(["node", "--check", "--input-type=module", "-"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
