"""The severity catalogue gives back the document's own tables, and the document's names are kept to the letter."""

from chaos import matrix
from slo import alerts, expectations, severity

DOCUMENT = matrix.load_matrix()


def test_the_summary_recomputed_from_the_catalogue_is_the_documents() -> None:
    """All twelve numbers (decision 1)."""
    recomputed = {row.severity: (row.count, row.automatic, row.manual) for row in severity.summary()}
    documented = {row.severity.lower(): (row.count, row.auto_recovery, row.manual_recovery) for row in DOCUMENT.summary}

    assert recomputed == documented
    assert recomputed == {"critical": (4, 2, 4), "high": (7, 4, 7), "medium": (4, 3, 4), "low": (1, 1, 1)}


def test_the_escalation_matrix_is_the_documents() -> None:
    documented = {row.severity.lower(): (row.response_time, row.path) for row in DOCUMENT.escalation}
    meanings = {level: severity.meaning(level) for level in severity.SEVERITIES}

    assert {level: (one.response_time, one.escalation) for level, one in meanings.items()} == documented


def test_who_is_notified_in_which_order_follows_the_escalation_path() -> None:
    people = {"page": "On-call", "ticket": "On-call", "lead": "Lead", "director": "Director", "team": "Team"}

    for level in severity.SEVERITIES:
        meaning = severity.meaning(level)
        assert " → ".join(people[receiver] for receiver in meaning.receivers) == meaning.escalation
        delays = list(meaning.receivers.values())
        assert delays == sorted(delays)
        assert delays[0] == 0
        if len(delays) > 1:
            assert delays[1] == meaning.response_seconds, "the next person is called when the response time is over"


def test_the_catalogue_has_the_documents_modes_with_their_titles_and_slugs() -> None:
    catalogue = [(mode.id, mode.title, mode.slug) for mode in severity.failure_modes()]

    assert catalogue == [(mode.id, mode.title, mode.slug) for mode in DOCUMENT.modes]


def test_how_a_mode_recovers_is_what_its_recovery_lines_say() -> None:
    """Mode 5 recovers by itself without an Automated line: the client requests a new token (decision 1)."""
    for mode in severity.failure_modes():
        actors = {claim.actor for claim in DOCUMENT.mode(mode.id).claims if claim.kind is matrix.ClaimKind.RECOVERY}
        assert (mode.recovers == "automated") == ("Automated" in actors)
        assert (mode.recovers == "client") == (mode.id == "FM05")
        assert mode.recovers != "client" or "Client fixes" in actors
        assert mode.manual == ("Manual" in actors)


def test_an_alert_of_a_failure_mode_has_a_name_of_the_document_under_that_mode() -> None:
    for alert in alerts.load().alerts:
        if alert.failure_mode is not None:
            assert alert.name in DOCUMENT.mode(alert.failure_mode).alerts
            assert alert.group_name == DOCUMENT.mode(alert.failure_mode).slug


def test_every_alert_of_a_built_mode_is_specified_and_held_to_something() -> None:
    names = {alert.name for alert in alerts.load().alerts}

    for mode in DOCUMENT.modes:
        if mode.id not in matrix.NOT_BUILT:
            assert set(mode.alerts) <= names
            assert mode.id in expectations.failure_modes()
