"""What the README shows works, and what it points to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("*.md"))


@pytest.mark.real
def test_the_first_example_gives_183_on_both_nodes(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path / "branching.py"
    script.write_text(block)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    answer, allocations = done.stdout.splitlines()
    assert answer == "183"
    assert "'alpha'" in allocations
    assert "'beta'" in allocations


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []


def test_the_table_of_commands_is_complete() -> None:
    from handoff_lab.cli.entry import COMMANDS

    described = re.findall(r"^\| `handoff-lab (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(described) == sorted(COMMANDS)
