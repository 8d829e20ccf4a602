"""README and docs: commands exist, with options that they take; links lead somewhere."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from fieldtune.__main__ import _parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(^ *(?:\$ )?|`)fieldtune ([a-z]+\b[^`\n#]*)", re.MULTILINE)


LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)#?([^)\s]*)\)")


def commands() -> dict[str, argparse.ArgumentParser]:
    (chosen,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(chosen.choices)


def shown(page: Path) -> list[tuple[bool, list[str]]]:
    """Return each command's words, and whether it stands on a line of its own, ready to be typed."""
    text = page.read_text().replace("\\\n", " ")
    return [
        (before != "`", [word.strip("[]") for word in shlex.split(found)])
        for before, found in COMMAND.findall(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_page_exist_with_their_options(page: Path) -> None:
    known = commands()
    for whole, (name, *words) in shown(page):
        assert name in known
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
        assert options <= known[name]._option_string_actions.keys()
        if whole and "..." not in words:
            known[name].parse_args(words)


def test_commands_are_found() -> None:
    assert sum(whole for whole, _ in shown(ROOT / "README.md")) > 15
    assert "--board" in shown(ROOT / "docs" / "first_board.md")[-2][1]


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    for file, anchor in LINK.findall(page.read_text()):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"
