"""Run every harness for some seconds, two at a time, and print what each did.

Corpora are kept in `.fuzz/NAME/`, seeded from `fuzz/seeds.py` and, where the shared vectors are present, from real
evidence. A crash leaves its input in `.fuzz/NAME-crash-*` and makes the exit status 1.
"""

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from seeds import seeds_for
from targets import TARGETS

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".fuzz"


@dataclass(frozen=True)
class Outcome:
    """What one harness did: executions, size of its corpus, exit status, and the end of its log when it failed."""

    name: str
    executions: int
    corpus: int
    status: int
    tail: str


def run_one(name: str, seconds: int) -> Outcome:
    """Seed the corpus of one harness and fuzz it in a process of its own."""
    corpus = WORK / name
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds_for(name)):
        (corpus / f"seed-{index:03}").write_bytes(seed)
    command = [
        sys.executable,
        str(HERE / "harness.py"),
        name,
        f"-max_total_time={seconds}",
        f"-max_len={TARGETS[name].max_len}",
        f"-artifact_prefix={WORK}/{name}-",
        str(corpus),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE, timeout=seconds * 3 + 120)
    (WORK / f"{name}.log").write_text(done.stderr)
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return Outcome(
        name,
        int(executed.group(1)) if executed else 0,
        len(list(corpus.iterdir())),
        done.returncode,
        "\n".join(done.stderr.splitlines()[-25:]) if done.returncode else "",
    )


def main() -> int:
    """Fuzz all targets, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="how long each harness runs")
    parser.add_argument("--only", action="append", choices=sorted(TARGETS), help="only this harness (repeatable)")
    options = parser.parse_args()
    names = options.only or sorted(TARGETS)
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda name: run_one(name, options.seconds), names))
    for outcome in outcomes:
        verdict = "ok" if outcome.status == 0 and outcome.executions else "FAILED"
        print(f"{outcome.name:<22} {outcome.executions:>10} runs {outcome.corpus:>6} in corpus  {verdict}")
        if verdict != "ok":
            print(outcome.tail)
    total = sum(outcome.executions for outcome in outcomes)
    print(f"{total} runs in {time.monotonic() - started:.0f} s, {options.seconds} s a harness")
    return 1 if any(outcome.status or not outcome.executions for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
