"""Check the documents: links lead somewhere, the README's commands exist, every code and bound is in its table."""

import re
import sys
from pathlib import Path

from proxy_attestation.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")
COMMAND = re.compile(r"^\s*(?:\$ )?proxy-attestation ([a-z-]+)", re.MULTILINE)
TARGET = re.compile(r"\bmake ([a-z-]+)")


def broken_links(document: Path) -> list[str]:
    """Return the relative links of a document that lead nowhere."""
    return [
        f"{document.relative_to(ROOT)}: link to {target} leads nowhere"
        for target, _ in LINK.findall(document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]


def unknown_commands(document: Path, targets: set[str]) -> list[str]:
    """Return commands and make targets that a document shows and that do not exist."""
    text = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))
    commands = [f"command {name}" for name in COMMAND.findall(text) if name not in COMMANDS]
    makes = [f"make target {name}" for name in TARGET.findall(text) if name not in targets]
    return [f"{document.relative_to(ROOT)}: there is no {name}" for name in commands + makes]


def main() -> int:
    """Check every tracked document."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    bad = [problem for document in documents for problem in broken_links(document)]
    bad += [problem for document in documents for problem in unknown_commands(document, targets)]
    for problem in bad:
        print(problem)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
