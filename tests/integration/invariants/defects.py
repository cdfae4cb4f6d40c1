"""What must catch each planted defect of ``defects/``: which invariant, in which words, and without which second net.

The name of a patch begins with the invariant that it breaks. Most of them break others as well: a decision without
votes has no quorum either. Each is judged by its own.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PATCHES: Final = Path(__file__).parent / "defects"
_NUMBER: Final = re.compile(r"I0?(\d+)_")
_NOTHING_COMPARES_BASES: Final = "ALTER TABLE snapshots DROP CONSTRAINT snapshots_stand_on_their_base;"


@dataclass(frozen=True)
class Defect:
    """A patch of the service, and the words with which its invariant must refuse what comes of it.

    ``reason``: a regular expression, found in the finding's reason. ``sql``: takes away what the database itself would
    refuse, or the defect would never show. ``is_of_every_run``: rehearsed by every test run, not only when all are
    asked for; a few, of different invariants, that show at once.
    """

    patch: str
    reason: str
    sql: str = ""
    is_of_every_run: bool = False

    @property
    def invariant(self) -> str:
        """The one that it breaks: "I5" of "I05_skips_a_version"."""
        return f"I{_NUMBER.match(self.patch).group(1)}"  # type: ignore[union-attr] # a test holds the names to it


DEFECTS: Final[tuple[Defect, ...]] = (
    Defect("I01_committed_only_mostly", r"\d+ of \d+ acknowledgements are for nothing", is_of_every_run=True),
    Defect("I01_list_from_a_cache", r"\d+ reads missed a proposal acknowledged before they began"),
    Defect("I02_keeps_other_bytes", r"was never asked for|is not what was acknowledged"),
    Defect("I02_refuses_after_commit", r"is there although it was refused"),
    Defect("I03_counts_a_person_twice", r"0 recomputed, 1 needed", is_of_every_run=True),
    Defect("I03_ignores_the_time_lock", r"applied before its time-lock of \d+ s"),
    Defect("I04_the_proposer_votes", r"it is the proposer's own"),
    Defect("I04_votes_after_the_decision", r"it was cast after the decision"),
    Defect("I05_applies_on_a_stale_base", r"v\d+ is no child of v\d+", sql=_NOTHING_COMPARES_BASES),
    Defect(
        "I05_skips_a_version",
        r"has the versions \[1, 3",
        sql=f"DROP TRIGGER targets_grow_by_one ON targets; {_NOTHING_COMPARES_BASES}",
    ),
    Defect("I06_head_from_a_cache", r"a read showed v\d+ after v\d+ was known", is_of_every_run=True),
    Defect("I06_mixes_two_versions", r"a read showed v\d+ with a digest that version never had"),
    Defect("I07_a_key_is_everybodys", r"was refused to client-\d, who used it for nothing else"),
    Defect("I07_bodies_are_not_compared", r"was accepted with two bodies"),
    Defect("I08_numbers_a_batch_backwards", r"is wrong in prev"),
    Defect("I08_signs_another_root", r"is no prefix of the log"),
    Defect("I09_a_vote_leaves_no_event", r"has 0 vote-cast events"),
    Defect(
        "I09_the_decision_comes_afterwards",
        r"the decision on \S+ and its event are of two transactions",
        is_of_every_run=True,
    ),
    Defect("I10_decides_without_the_simulation", r"decided without its simulation"),
    Defect("I10_votes_are_spent_first", r"decided without votes"),
    Defect("I11_marks_what_it_restored", r"is not v\d+ again"),
    Defect("I11_only_the_number_moves", r"is not v\d+ again"),
    Defect("I12_numbering_stops", r"the fold ends elsewhere|entries were folded"),
    Defect("I12_order_of_a_set", r"does not follow", is_of_every_run=True),
    Defect("I15_the_body_in_an_error", r"errors\.jsonl holds a proposal's body"),
    Defect("I15_the_key_in_a_log_line", r"logs/replica-\d\.log holds api-key-"),
)
