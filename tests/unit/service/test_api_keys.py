import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security import api_keys
from app.settings import Secret

PEPPER = Secret(b"p" * 32)


def test_a_new_key_has_the_documented_shape_and_no_other_is_like_it() -> None:
    keys = {api_keys.new_key() for _ in range(200)}

    assert len(keys) == 200
    assert all(key.startswith("amgf_") and len(key) == api_keys.KEY_CHARACTERS for key in keys)
    assert all(api_keys.parse(key) is not None for key in keys)


@given(place=st.integers(5, api_keys.KEY_CHARACTERS - 1), character=st.characters(max_codepoint=0x17F))
def test_a_typo_is_noticed_without_asking_anybody(place: int, character: str) -> None:
    key = api_keys.new_key()
    typo = key[:place] + character + key[place + 1 :]
    if typo != key:
        assert api_keys.parse(typo) is None


@given(st.text(max_size=100))
def test_any_text_is_no_key(text: str) -> None:
    assert api_keys.parse(text) is None


def test_what_is_stored_depends_on_id_secret_and_pepper() -> None:
    key = api_keys.parse(api_keys.new_key())
    other = api_keys.parse(api_keys.new_key())
    assert key
    assert other

    digests = {
        key.digest(PEPPER),
        key.digest(Secret(b"q" * 32)),
        other.digest(PEPPER),
        api_keys.Key(other.id, key.secret).digest(PEPPER),
    }

    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {32}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["create"],
        ["create", "--principal", "a"],
        ["create", "--principal", "A b", "--role", "editor"],
        ["create", "--principal", "a", "--role", "owner"],
        ["create", "--principal", "a", "--role", "editor", "--days", "0"],
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        api_keys.main(arguments)

    assert caught.value.code == 2


@pytest.mark.parametrize("line", ["ann", "ann owner", "Ann B validator", "ann validator,editor"])
def test_a_line_of_many_that_names_no_role_or_no_principal_is_refused(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"ben validator\n{line}\n"))

    with pytest.raises(SystemExit) as caught:
        api_keys.main(["create-many"])

    assert caught.value.code == 2
