"""All benchmarks, one after the other, each in a process of its own; at the end, which results were written.

python -m loadtests [NAME ...]        such as `peers batcher`; all of them if left out
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.report import RESULTS, goals_of

ORDER = ("gateway", "mobilenet", "batcher", "peers", "swap", "overload", "controller", "rollback", "routing")


def run(name: str) -> str:
    """Run one benchmark; return the line that says what came of it."""
    began = time.time()
    ended = subprocess.run([sys.executable, "-m", f"loadtests.{name}_bench"], check=False)
    minutes = f"{(time.time() - began) / 60:.1f} min"
    result = RESULTS / f"{name}.json"
    if ended.returncode or not result.exists() or result.stat().st_mtime < began:
        return f"{name}: no result, exit code {ended.returncode} ({minutes})"
    return f"{name}: {_verdict(result)} ({minutes}), {result.with_suffix('.md').relative_to(Path.cwd())}"


def _verdict(result: Path) -> str:
    met, missed = goals_of(json.loads(result.read_bytes())["rows"])
    return f"{met} goals met" + (f", missed: {'; '.join(missed)}" if missed else "")


def main(names: Sequence[str]) -> int:
    """0 when every benchmark wrote its result, met or not; 1 when not, 2 for a name that is none."""
    if unknown := [name for name in names if name not in ORDER]:
        print(f"no such benchmark: {', '.join(unknown)}; expected some of {', '.join(ORDER)}", file=sys.stderr)
        return 2
    lines = [run(name) for name in names or ORDER]
    print("\n".join(lines))
    return int(any("no result" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
