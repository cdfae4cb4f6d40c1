"""``python -m benchmarks [topic ...]``: ratios from paired, interleaved runs. A new topic is a module and a line."""

import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import click

from benchmarks import canonical_form, decode, log, patch, replay, rules, simulation, stages, vote
from benchmarks.measure import ROUNDS, SLICE_SECONDS, Disagreement, Pair, Result, compare

TOPICS: dict[str, Callable[[], list[Pair]]] = {
    "decode": decode.pairs,
    "canonical": canonical_form.pairs,
    "patch": patch.pairs,
    "rules": rules.pairs,
    "simulation": simulation.pairs,
    "vote": vote.pairs,
    "log": log.pairs,
    "replay": replay.pairs,
}
STAGES: dict[str, Callable[[], AbstractContextManager[list[Pair]]]] = {
    "intake": stages.intake,
    "vote": stages.vote,
    "apply": stages.apply,
}
"""These run on a PostgreSQL of their own."""
NAMES = list(dict.fromkeys([*TOPICS, *STAGES]))
EXIT_DISAGREEMENT = 1
MANY_A_SECOND = 1e6


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=f"Topics: {', '.join(NAMES)}.")
@click.argument("topics", nargs=-1, type=click.Choice(NAMES), metavar="[TOPIC]...")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(2, 1_000), help="Turns of each side.")
@click.option(
    "--slice",
    "slice_seconds",
    default=SLICE_SECONDS,
    show_default=True,
    type=click.FloatRange(0.001, 60),
    help="Seconds a turn.",
)
def main(topics: tuple[str, ...], rounds: int, slice_seconds: float) -> None:
    """Print how long our way takes, and how many times longer the ordinary one.

    Times are CPU microseconds a unit, medians; in brackets the quartiles. Judge by the ratios:
    times are this machine's. Without a topic, all of them: about three minutes. Intake, vote and apply
    start a PostgreSQL and the whole application, and stop them.
    """
    click.echo(f"{platform.python_implementation()} {platform.python_version()}, {rounds} rounds of {slice_seconds} s")
    disagreed = False
    for topic in topics or NAMES:
        click.echo(f"\n{topic}")
        with STAGES[topic]() if topic in STAGES else nullcontext([]) as staged:
            for pair in [*(TOPICS[topic]() if topic in TOPICS else []), *staged]:
                disagreed |= not _was_compared(pair, rounds=rounds, slice_seconds=slice_seconds)
    sys.exit(EXIT_DISAGREEMENT if disagreed else 0)


def _was_compared(pair: Pair, *, rounds: int, slice_seconds: float) -> bool:
    """Time a pair and print it; False if its sides disagree."""
    try:
        _print(compare(pair, rounds=rounds, slice_seconds=slice_seconds))
    except Disagreement:
        click.echo(f"  {pair.name}: the two sides DISAGREE, not timed")
        return False
    return True


def _print(result: Result) -> None:
    pair = result.pair
    lower, upper = result.spread
    line = f"  {pair.name:<48} {result.ours:>10,.1f} us [{lower:,.1f} .. {upper:,.1f}]"
    if pair.ours.units > 1:
        line += f" {MANY_A_SECOND / result.ours:>12,.0f}/s"
    if result.theirs is not None and result.ratio is not None and pair.theirs is not None:
        low, middle, high = result.ratio
        line += f"   {middle:>6.2f}x [{low:.2f} .. {high:.2f}]   {pair.theirs.name} {result.theirs:,.1f} us"
    if pair.goal is not None:
        line += f"   goal {pair.goal.says()}: {'met' if pair.goal.is_met(result) else 'SHORT'}"
    click.echo(line)


main(prog_name="python -m benchmarks")
