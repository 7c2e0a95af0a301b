"""The table in docs/configuration.md is that of the declarations.

Run as a program, this file writes the table anew.
"""

from __future__ import annotations

from pathlib import Path

from tqserver.model.config import describe

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN = "<!-- settings: written by tests/unit/test_config_docs.py -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    lines = ["| Key | Kind | Default | Meaning |", "|---|---|---|---|"]
    for known in describe():
        also = f" Also written {' or '.join(f'`{alias}`' for alias in known.aliases)}." if known.aliases else ""
        default = known.default if known.default in ("none", "unset") else f"`{known.default}`"
        lines.append(f"| `{known.key}` | {known.kind} | {default} | {known.help}{also} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    found, _, after = rest.partition(END)
    return before, found, after


def test_the_table_is_that_of_the_declarations() -> None:
    assert parts()[1] == table(), f"write it anew: python {Path(__file__).name}"


def test_every_setting_says_what_it_is() -> None:
    for known in describe():
        assert known.help.endswith("."), known.key
        assert "|" not in known.help, known.key


if __name__ == "__main__":
    before, _, after = parts()
    PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
