"""Scenarios over three hosts of the test bed with random faults, for as long as one likes. `make soak`.

A round: a scenario with actions on all hosts, none to three faults at random moments, then

- the client has ended, with a success or a stated loss (a loss needs a fault that can cost it);
- no action was executed twice;
- the host of an action that lost its client has run on_stop;
- nothing is left on either side. (Where a fault took the server from the host, its last words may stay, and
  the window that shows them, until `se-remote kill`.)

The plan of a round follows from the seed and its number alone: `--seed S --round N` tries one again.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

import namespaces
import netbed
from bedcase import install_actions
from campaign import KINDS, Fleet, Strike

ENDS_WITHIN, CLEAN_WITHIN = 75.0, 60.0
HOSTS = 3
SECONDS = (2.0, 6.0)
"""How long the long action runs."""
EARLY = 0.25
"""The share of faults that strike while the client starts; the others when all hosts are busy."""


class Failure(Exception):
    """A round that broke a promise."""


class Totals:
    """What the summary is made of."""

    def __init__(self) -> None:
        self.rounds = 0
        self.outcomes: dict[str, int] = defaultdict(int)
        self.struck: dict[str, int] = defaultdict(int)
        self.ended: dict[str, list[float]] = defaultdict(list)
        self.clean: dict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []

    def add(self, strikes: list[Strike], outcome: str, ended: float, clean: float) -> None:
        """Seconds from the last fault; by kind only where it was the only one."""
        self.rounds += 1
        self.outcomes[outcome] += 1
        hit = [strike for strike in strikes if strike.hit]
        for strike in hit:
            self.struck[strike.kind.name] += 1
        names = {strike.kind.name for strike in hit} or {"(none)"}
        if len(names) == 1:
            name = names.pop()
            self.ended[name].append(ended)
            self.clean[name].append(clean)

    def table(self) -> str:
        lines = [f"{'fault':32} {'struck':>6} {'alone':>5}  client ended p50/max    all clean p50/max"]
        for name in sorted({*self.struck, *self.ended}):
            ended, clean = self.ended[name], self.clean[name]
            times = "".join(
                f"{statistics.median(one):10.1f} /{max(one):6.1f} s  " if one else f"{'-':>10}  {'':11}"
                for one in (ended, clean)
            )
            lines.append(f"{name:32} {self.struck[name]:6} {len(ended):5}  {times}")
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        lines.append(f"{self.rounds} rounds: {outcomes}; {len(self.failures)} failures")
        return "\n".join(lines + [f"  FAILED: {text}" for text in self.failures])


def plan(seed: int, number: int) -> tuple[float, list[Strike]]:
    """Of a round: how long its long actions run, and its faults in order."""
    chance = random.Random(f"{seed}/{number}")
    seconds = round(chance.uniform(*SECONDS), 1)
    kinds = [chance.choice(KINDS) for _ in range(chance.choice((0, 1, 1, 1, 2, 3)))]
    strikes = []
    for kind in kinds:
        since, latest = ("start", 2.0) if chance.random() < EARLY else ("running", seconds)
        strikes.append(Strike(kind, since, round(chance.uniform(0.0, latest), 1), chance.randrange(HOSTS)))
    return seconds, sorted(strikes, key=lambda strike: (strike.since != "start", strike.at))


def try_round(bed: netbed.Bed, seed: int, number: int, totals: Totals) -> None:
    """Raises Failure."""
    seconds, strikes = plan(seed, number)
    fleet = Fleet(bed, f"r{number}")
    try:
        fleet.begin(seconds)
        fleet.strike(strikes)
        outcome, ended, clean = judge(fleet, strikes)
        totals.add(strikes, outcome, ended, clean)
        print(
            f"{number:4} {outcome:8} ended {ended:5.1f} s, clean {clean:5.1f} s  {_text(strikes)}", flush=True
        )
    except AssertionError as error:
        raise Failure(f"{error}\nseed {seed} round {number}: {_text(strikes)}\n{fleet.evidence()}") from error
    finally:
        fleet.close()
        for host in bed.hosts:
            host.repair()
        shutil.rmtree(fleet.folder, ignore_errors=True)


def judge(fleet: Fleet, strikes: list[Strike]) -> tuple[str, float, float]:
    """The outcome, and seconds from the last fault to the client's end and to a clean bed."""
    began = max([strike.struck_at for strike in strikes if strike.hit], default=time.monotonic())
    assert namespaces.wait_until(lambda: fleet.code is not None, ENDS_WITHIN), (
        f"no end within {ENDS_WITHIN:g} s"
    )
    ended = time.monotonic() - began
    fleet.make_whole()
    left = fleet.left_by_itself(strikes)
    assert namespaces.wait_until(lambda: not left(), CLEAN_WITHIN), f"left: {left()}"
    clean = time.monotonic() - began
    fleet.kill_by_hand()
    assert namespaces.wait_until(lambda: not fleet.leftovers(), 15), f"left after kill: {fleet.leftovers()}"
    twice = fleet.executed_twice()
    assert not twice, f"executed twice: {twice}"
    costs = [strike for strike in strikes if strike.hit and strike.kind.costs]
    if fleet.code == 0:
        missing = fleet.not_executed()
        assert not missing, f"a success, but not executed: {missing}"
        return "success", ended, clean
    assert costs, f"exit code {fleet.code}, although no fault of this round may cost anything"
    if fleet.code == 1:
        assert fleet.states_a_loss(), "it failed without a word about why"
    unsafe = fleet.without_on_stop(strikes)
    assert not unsafe, f"on_stop has not run on {unsafe}"
    return ("loss" if fleet.code == 1 else "killed"), ended, clean


def _text(strikes: list[Strike]) -> str:
    return "; ".join(str(strike) for strike in strikes) or "no fault"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--round", type=int, default=None, help="only this one")
    parser.add_argument("--stop", action="store_true", help="at the first failure")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    reason = namespaces.why_not()
    if reason:
        print(f"no test bed here: {reason}", file=sys.stderr)
        return 2
    print(f"seed {seed}; one round again: {sys.argv[0]} --seed {seed} --round N", flush=True)
    totals = Totals()
    directory = Path(tempfile.mkdtemp(prefix="seb-", dir="/tmp"))
    until = time.monotonic() + options.minutes * 60
    try:
        with netbed.bed(directory, HOSTS) as bed:
            install_actions(directory / "plugins")
            number = options.round or 1
            while True:
                try:
                    try_round(bed, seed, number, totals)
                except Failure as failure:
                    print(f"{number:4} FAILED   {failure}", flush=True)
                    totals.rounds += 1
                    totals.failures.append(f"round {number}: {str(failure).splitlines()[0][:200]}")
                    if options.stop:
                        break
                number += 1
                if options.round or time.monotonic() > until:
                    break
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)
    print(totals.table())
    return 1 if totals.failures else 0


if __name__ == "__main__":
    sys.exit(main())
