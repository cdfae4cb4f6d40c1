"""A firewall is founded once, by enough founders, under the constitution; then only proposals change the rules."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.documents import canonical
from app.core.governance.genesis import Genesis
from app.core.governance.policy_set import DEFAULT
from tests.integration.service.running import Server
from tests.unit.service.founding import founded

pytestmark = pytest.mark.integration


@pytest.fixture
def migrated(bare_server: Server) -> Server:
    assert bare_server.command("app.migrations.apply").returncode == 0
    return bare_server


def written(folder: Path, bundle: Genesis) -> str:
    path = folder / "genesis.json"
    path.write_bytes(json.dumps(bundle.document(), indent=1).encode())
    return str(path)


def count_events(server: Server) -> list[Any]:
    with server.connect() as connection:
        return connection.execute("SELECT kind, target, proposal_id, state_to FROM events").fetchall()


def test_a_bundle_of_enough_founders_becomes_the_four_documents_and_the_first_event(
    migrated: Server, tmp_path: Path
) -> None:
    bundle = founded("ada", "bob")

    done = migrated.command("app.genesis", "install", written(tmp_path, bundle))

    assert (done.returncode, done.stdout) == (0, f"founded: {bundle.digest()}\n"), done.stderr
    with migrated.connect() as connection:
        snapshots = connection.execute("SELECT target, version, content FROM snapshots ORDER BY target").fetchall()
        event = connection.execute("SELECT kind, target, prev, leaf, body FROM events").fetchall()
    parts = {"corpus": bundle.corpus, "policies": bundle.policies, "root": bundle.root, "validators": bundle.validators}
    assert snapshots == [
        (f"governance/{name}", 1, canonical.encode_value(document)) for name, document in sorted(parts.items())
    ]
    assert [(kind, target, prev) for kind, target, prev, _, _ in event] == [("genesis", None, None)]
    assert json.loads(event[0][4]) == {"genesis": bundle.document()}
    assert json.loads(event[0][3])["body"] == canonical.digest(event[0][4])
    shown = migrated.command("app.genesis", "show")
    assert json.loads(shown.stdout)["governance/root"]["version"] == 1


def test_the_same_bundle_again_changes_nothing_whoever_else_signed_it(migrated: Server, tmp_path: Path) -> None:
    assert migrated.command("app.genesis", "install", written(tmp_path, founded("ada", "bob"))).returncode == 0

    again = migrated.command("app.genesis", "install", written(tmp_path, founded("bob", "cyd")))

    assert (again.returncode, again.stdout.partition(":")[0]) == (0, "founded before")
    assert len(count_events(migrated)) == 1


def test_another_bundle_is_refused(migrated: Server, tmp_path: Path) -> None:
    assert migrated.command("app.genesis", "install", written(tmp_path, founded("ada", "bob"))).returncode == 0

    other = founded("ada", "bob", corpus={"v": 1, "id": "another", "cases": []})
    refused = migrated.command("app.genesis", "install", written(tmp_path, other))

    assert (refused.returncode, "founded with another bundle" in refused.stderr) == (65, True)
    assert len(count_events(migrated)) == 1


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        (founded("ada"), "threshold"),
        (founded(), "threshold"),
        (founded("ada", "robot"), "bad-signature"),
        (
            founded("ada", "bob", policies={**DEFAULT.document(), "quorum": {}}),
            "/policies/quorum",
        ),
        (founded("ada", "bob", validators={"v": 1, "validators": [], "minimum": 3}), "too-few"),
        (founded("ada", "bob", corpus={}), "empty-corpus"),
    ],
    ids=["one of two", "nobody", "a stranger", "no thresholds", "nobody to govern", "no corpus"],
)
def test_a_bundle_that_is_not_good_enough_leaves_nothing(
    migrated: Server, tmp_path: Path, bundle: Genesis, says: str
) -> None:
    done = migrated.command("app.genesis", "install", written(tmp_path, bundle))

    assert done.returncode == 65
    assert says in done.stderr
    assert count_events(migrated) == []


def test_what_cannot_be_read_or_shown_is_said_in_one_line(migrated: Server, tmp_path: Path) -> None:
    nothing = migrated.command("app.genesis", "install", str(tmp_path / "absent.json"))
    unfounded = migrated.command("app.genesis", "show")

    assert (nothing.returncode, nothing.stderr.count("\n")) == (65, 1)
    assert (unfounded.returncode, unfounded.stderr.count("\n")) == (65, 1)


def test_the_application_itself_cannot_found(migrated: Server, tmp_path: Path) -> None:
    assert migrated.command("app.genesis", "install", written(tmp_path, founded("ada", "bob"))).returncode == 0

    with migrated.connect("firewall_app") as connection, pytest.raises(Exception, match=r"append-only|permission"):
        connection.execute("UPDATE snapshots SET content = 'x' WHERE target = 'governance/policies'")
