"""The campaign: ``python -m tests.fuzz`` attacks until the time or the number of tries is over.

    make fuzz                          a thousand tries, at most ten minutes
    make fuzz SEED=123                 one try again, with all that was said; its files stay
    make fuzz MINUTES=60 TRIES=9999    a longer one

It ends with a table, and with exit code 1 where there was a finding.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.judge import Ended
from tests.fuzz.tries import KINDS, attack
from tests.fuzz.world import World


def main() -> int:
    """Run the campaign, or one try."""
    parser = argparse.ArgumentParser(description="Random attacks on the command line.")
    parser.add_argument("--seed", type=int, help="repeat this one try")
    parser.add_argument("--first", type=int, default=int(time.time()), help="seed of the first try")
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a command may take")
    parser.add_argument("--kind", choices=list(KINDS), default="", help="only attacks of this kind")
    given = parser.parse_args()
    # Nothing of this belongs to the user who runs it.
    root = Path(tempfile.mkdtemp(prefix="cxrsynth-fuzz-"))
    os.environ.update({"XDG_CONFIG_HOME": str(root / "config"), "CXRSYNTH_CACHE": str(root / "cache"), "NO_COLOR": "1"})
    world = World(root)
    if given.seed is not None:
        kind, ended = attack(given.seed, world, given.limit, given.kind)
        for one in ended:
            tell(given.seed, kind, one, whole=True)
        print(f"its files are in {root / f'try-{given.seed}'}")
        return int(any(one.findings for one in ended))
    codes: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
    tries: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    print(f"seeds from {given.first}; repeat one with: make fuzz SEED=n", flush=True)
    end = time.monotonic() + 60 * given.minutes
    for seed in range(given.first, given.first + given.tries):
        if time.monotonic() > end:
            break
        kind, ended = attack(seed, world, given.limit, given.kind)
        tries[kind] += 1
        for one in ended:
            codes[kind][one.code] += 1
            if one.findings:
                findings[kind] += 1
                tell(seed, kind, one)
        shutil.rmtree(root / f"try-{seed}", ignore_errors=True)
    print(f"\n{'kind':10} {'tries':>6} {'findings':>9}   exit codes")
    for kind in KINDS:
        told = ", ".join(f"{code}: {count}" for code, count in sorted(codes[kind].items()))
        print(f"{kind:10} {tries[kind]:6} {findings[kind]:9}   {told}")
    print(f"{'all':10} {tries.total():6} {findings.total():9}")
    shutil.rmtree(root, ignore_errors=True)
    return int(findings.total() > 0)


def tell(seed: int, kind: str, ended: Ended, whole: bool = False) -> None:
    """A finding, or all of a try."""
    print(
        f"\n{'FINDING' if ended.findings else 'fine'} seed {seed}, {kind}: cxrsynth {' '.join(map(repr, ended.words))}"
    )
    for finding in ended.findings:
        print(f"  {finding}")
    if whole:
        print(f"  exit code {ended.code}\n{ended.output}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
