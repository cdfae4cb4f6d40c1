"""The demo ends where a step does not go as it should."""

from pathlib import Path

import pytest

from compose.demo import Demo, DemoFailed
from compose.up import Home, State

CLIENT = """import sys
print("refused:", *sys.argv[1:], file=sys.stderr)
sys.exit({code})
"""


def demo(folder: Path, *, code: int, told: list[str]) -> Demo:
    client = folder / "app" / "client"
    client.mkdir(parents=True)
    (client / "__main__.py").write_text(CLIENT.format(code=code))
    for package in (folder / "app", client):
        (package / "__init__.py").touch()
    state = State(guard="", world="", profile="fast", moving_target="moving-00", service_path=str(folder))
    return Demo(Home(folder / "up"), state, folder, told.append)


@pytest.mark.parametrize("code", [1, 69, 75])
def test_a_step_that_ends_otherwise_ends_the_demo_and_shows_what_it_said(tmp_path: Path, code: int) -> None:
    told: list[str] = []

    with pytest.raises(DemoFailed, match=f"step 1 ended with exit code {code}"):
        demo(tmp_path, code=code, told=told)._propose("moving-00")

    assert (
        told[1]
        == "    ann$ amgf propose moving-00 --from old.json --to new.json -m 'research needs a browser' --risk high -y"
    )
    assert any("refused: propose" in line for line in told)


def test_a_proposal_that_nobody_names_ends_it_too(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="names no proposal"):
        demo(tmp_path, code=0, told=[])._propose("moving-00")


def test_no_stack_that_answers_ends_it(tmp_path: Path) -> None:
    made = demo(tmp_path, code=0, told=[])
    made.home.api_key("auditor").parent.mkdir(parents=True)
    made.home.api_key("auditor").write_text("key")
    made.state = State(guard="", world="", profile="fast", address="http://127.0.0.1:1")

    with pytest.raises(DemoFailed, match="does not answer"):
        made.run()
