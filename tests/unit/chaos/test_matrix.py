from collections import Counter
from pathlib import Path

import pytest

from chaos import matrix
from chaos.matrix import ClaimKind, DocumentError, load_matrix, parse


@pytest.fixture(scope="module")
def document() -> matrix.Matrix:
    return load_matrix()


def test_the_document_has_sixteen_modes_and_188_claims(document: matrix.Matrix) -> None:
    kinds = Counter(claim.kind for claim in document.claims.values())

    assert [mode.number for mode in document.modes] == list(range(1, 17))
    assert kinds == {ClaimKind.DETECTION: 57, ClaimKind.MITIGATION: 62, ClaimKind.RECOVERY: 69}
    assert len(document.claims) == 188


def test_recovery_steps_count_10_automated_49_manual_and_10_others(document: matrix.Matrix) -> None:
    actors = Counter(claim.actor for claim in document.claims.values() if claim.kind is ClaimKind.RECOVERY)

    assert actors == {"Automated": 10, "Manual": 49, "Rollback": 5, "Client fixes": 4, "Hotfix": 1}


def test_sixteen_alerts_stand_over_fifteen_modes(document: matrix.Matrix) -> None:
    alerts = [alert for mode in document.modes for alert in mode.alerts]

    assert len(alerts) == len(set(alerts)) == 16
    assert [mode.id for mode in document.modes if not mode.alerts] == ["FM05"]
    assert document.mode("FM07").alerts == ("HighMemoryUsage", "PodOOMKilled")


@pytest.mark.parametrize(
    ("claim", "line", "text"),
    [
        ("FM01.D4", 19, "Alert: `DatabaseConnectionDown`"),
        ("FM01.M1", 22, "Exponential backoff retry (1s, 2s, 4s, 8s, max 30s)"),
        ("FM01.R5", 32, "Rollback: Restart service if connection restored"),
        ("FM03.R2", 82, "Manual: Run migrations manually: `python -m app.migrations.apply`"),
        ("FM04.D4", 100, "Alert: `HighAuthFailureRate` (if > 10% of requests)"),
        ("FM16.M4", 430, "Sensible defaults where safe"),
    ],
)
def test_a_claim_is_the_document_s_words_at_the_document_s_line(
    document: matrix.Matrix, claim: str, line: int, text: str
) -> None:
    lines = matrix.DOCUMENT.read_text().splitlines()

    assert document.claims[claim].text == text
    assert document.claims[claim].line == line
    assert lines[line - 1].endswith(text)


@pytest.mark.parametrize(
    ("mode", "slug"),
    [
        ("FM01", "fm01_database_connection_failure"),
        ("FM06", "fm06_rate_limit_exceeded"),
        ("FM07", "fm07_memory_pressure_oom"),
        ("FM12", "fm12_high_error_rate_non_5xx"),
        ("FM16", "fm16_invalid_configuration"),
    ],
)
def test_a_slug_is_the_heading_in_small_letters(document: matrix.Matrix, mode: str, slug: str) -> None:
    assert document.mode(mode).slug == slug


def test_a_mode_keeps_its_section_failure_and_impact(document: matrix.Matrix) -> None:
    mode = document.mode("FM16")

    assert mode.section == "Configuration Errors"
    assert mode.failure == "Service started with invalid config"
    assert mode.slo_impact == "High if production, None if caught in lower env"


def test_the_summary_and_escalation_tables_are_read(document: matrix.Matrix) -> None:
    assert [(row.severity, row.count) for row in document.summary] == [
        ("Critical", 4),
        ("High", 7),
        ("Medium", 4),
        ("Low", 1),
    ]
    assert document.escalation[0].response_time == "5 minutes"


def test_an_edited_document_is_refused_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    edited = matrix.DOCUMENT.read_text().replace("Query timeout set to 30s", "Query timeout set to 31s")
    path = tmp_path / "failure-mode-matrix.md"
    path.write_text(edited)
    monkeypatch.setattr(matrix, "DOCUMENT", path)

    with pytest.raises(DocumentError, match=r"was edited[\s\S]*set DOCUMENT_SHA256 in chaos/matrix.py"):
        load_matrix()


MODE = """### 1. Something Fails

**Failure**: It fails

**Detection**:
- Seen

**Mitigation**:
- Bounded

**Recovery**:
1. Automated: Heals

**SLO Impact**: None
"""


@pytest.mark.parametrize(
    ("replaced", "by", "message"),
    [
        ("**Mitigation**:\n- Bounded\n", "", "FM01 has no mitigation"),
        ("**SLO Impact**: None", "", "FM01 has no SLO Impact"),
        ("**Detection**:", "**Symptoms**:", "a list under 'Symptoms'"),
        ("### 1. Something", "### Something", "not a numbered failure mode"),
        ("### 1.", "### 2.", "not numbered 1, 2, 3"),
    ],
)
def test_a_document_of_another_shape_is_refused(replaced: str, by: str, message: str) -> None:
    parse(MODE)

    with pytest.raises(DocumentError, match=message):
        parse(MODE.replace(replaced, by))
