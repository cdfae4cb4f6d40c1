import pytest

from app.client import plan, shown
from app.core.governance.policy_set import DEFAULT
from app.core.governed.target import Tier


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("plain text, with ünïcode", "plain text, with ünïcode"),
        ("line\nbreak", "line\\u000abreak"),
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("abc\u202edef", "abc\\u202edef"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("soft\u00adhyphen", "soft\\u00adhyphen"),
        ("no\u00a0break", "no\\u00a0break"),
        ("\u2066isolate\u2069", "\\u2066isolate\\u2069"),
        ("private \U000f0000 use", "private \\U000f0000 use"),
        ("line\u2028separator", "line\\u2028separator"),
        ("hangul\u3164filler", "hangul\\u3164filler"),
    ],
)
def test_what_does_not_show_itself_is_an_escape(written: str, seen: str) -> None:
    assert shown.text(written) == seen


def test_a_word_of_two_scripts_is_marked() -> None:
    assert shown.mixes_scripts("p\u0430ypal")
    assert "mixes scripts" in shown.text("p\u0430ypal")
    assert not shown.mixes_scripts("\u0440\u0430\u0437 und zwei \u03b1\u03b2")


def test_a_long_value_is_cut_and_says_how_long_it_is() -> None:
    seen = shown.value("x" * 1000)

    assert len(seen) < 200
    assert "1002 characters" in seen


def test_a_plan_says_what_goes_and_what_comes() -> None:
    old = {"prompts": {"system": "Be kind."}, "tools": ["a", "b"], "gone": 1}
    new = {"prompts": {"system": "Be \u202ekind."}, "tools": ["a", "b", "c"]}

    assert list(plan.lines(old, new)) == [
        "- /gone   1",
        "~ /prompts/system",
        '    - "Be kind."',
        '    + "Be \\u202ekind."',
        '+ /tools/2   "c"',
    ]


def test_a_plan_of_a_thousand_changes_is_cut() -> None:
    told = list(plan.lines({}, {str(number): number for number in range(1000)}))

    assert len(told) == plan.LINES_MAX + 1
    assert told[-1] == "… and 500 lines more"


def test_a_quorum_rule_reads_as_a_sentence() -> None:
    from app.client.commands.looking import needs  # noqa: PLC0415 - beside what it is compared with

    assert needs(DEFAULT.quorum_of(Tier.LOW)) == "1 recomputes (or one more person); applied by itself"
    assert "veto by safety" in needs(DEFAULT.quorum_of(Tier.HIGH))
