import json
from typing import Any

import msgspec
import pytest

from app.core.governance import genesis
from app.core.governance.genesis import Genesis
from app.errors import BadSignature, InvalidDocument, MalformedBody
from app.security.signatures import verify
from tests.unit.service.electorate import private_key
from tests.unit.service.founding import founded, public, root, signature, unsigned


def test_enough_founders_found_a_firewall() -> None:
    assert genesis.verify_signatures(founded("cyd", "ada"), verify=verify) == ("ada", "cyd")
    assert genesis.verify_signatures(founded("ada", "bob", "cyd"), verify=verify) == ("ada", "bob", "cyd")


def test_a_bundle_means_the_same_however_its_file_is_spelled() -> None:
    bundle = founded("ada", "bob")
    spelled = json.dumps(bundle.document(), indent=2).encode()

    again = genesis.decode(spelled)

    assert again == bundle
    assert (again.encode(), again.digest()) == (bundle.encode(), bundle.digest())
    assert founded("bob", "cyd").digest() == bundle.digest(), "the founding's name is what was signed, not by whom"


def with_signatures(bundle: Genesis, *names: str, of: Genesis) -> Genesis:
    return msgspec.structs.replace(bundle, signatures=tuple(signature(of, name) for name in names))


REFUSED: list[tuple[str, Genesis]] = [
    ("nobody signed", unsigned()),
    ("one of two", founded("ada")),
    ("one signed twice", founded("ada", "ada")),
    ("a stranger beside the founders", founded("ada", "bob", "mallory")),
    ("signatures of another bundle", with_signatures(unsigned(corpus={"v": 2}), "ada", "bob", of=unsigned())),
    ("a founder's name on a stranger's signature", msgspec.structs.replace(
        unsigned(),
        signatures=(
            signature(unsigned(), "ada"),
            msgspec.structs.replace(signature(unsigned(), "mallory"), keyid=private_key("bob").keyid),
        ),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("_name", "bundle"), REFUSED, ids=[one[0] for one in REFUSED])
def test_a_founding_is_not_believed(_name: str, bundle: Genesis) -> None:
    with pytest.raises(BadSignature):
        genesis.verify_signatures(bundle, verify=verify)


def test_a_root_signed_by_its_own_threshold_only() -> None:
    lax = founded(
        "ada",
        root=root(threshold=1, founders=[{"id": "ada", "public_key": public("ada")}]),
    )

    assert genesis.verify_signatures(lax, verify=verify) == ("ada",)
    with pytest.raises(InvalidDocument):
        genesis.verify_signatures(founded("ada", root=root(threshold=1)), verify=verify)


DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("another type", {"_type": "amgf/proposal"}),
    ("another version", {"v": 2}),
    ("an unknown field", {"extra": 1}),
    ("no root", {"root": None}),
    ("no such time", {"created_at": "2026-11-23T12:00:00Z"}),
]


@pytest.mark.parametrize(("_name", "change"), DOCUMENTS, ids=[one[0] for one in DOCUMENTS])
def test_what_is_no_bundle_is_refused(_name: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        genesis.from_value({**founded("ada", "bob").document(), **change})


def test_a_bundle_with_a_field_twice_is_refused() -> None:
    body = founded("ada", "bob").encode()

    with pytest.raises(MalformedBody):
        genesis.decode(body[:-1] + b',"v":1}')
