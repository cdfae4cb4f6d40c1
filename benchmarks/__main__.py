"""``python -m benchmarks [topic ...]``: ratios from paired, interleaved runs. A new topic is a module and a line."""

import platform
import sys
from collections.abc import Callable

import click

from benchmarks import canonical_form, decode, log, patch, replay, rules, simulation, vote
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
EXIT_DISAGREEMENT = 1
MANY_A_SECOND = 1e6


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topics", nargs=-1, type=click.Choice([*TOPICS]), metavar="[TOPIC]...")
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
    times are this machine's.
    """
    click.echo(f"{platform.python_implementation()} {platform.python_version()}, {rounds} rounds of {slice_seconds} s")
    disagreed = False
    for topic in topics or TOPICS:
        click.echo(f"\n{topic}")
        for pair in TOPICS[topic]():
            try:
                _print(compare(pair, rounds=rounds, slice_seconds=slice_seconds))
            except Disagreement:
                disagreed = True
                click.echo(f"  {pair.name}: the two sides DISAGREE, not timed")
    sys.exit(EXIT_DISAGREEMENT if disagreed else 0)


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
