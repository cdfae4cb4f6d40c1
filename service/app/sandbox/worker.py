"""The worker process: `python -m app.sandbox.worker`. Reads requests on its input, writes answers to its output.

It has no settings, no secrets and no connections; closing its input ends it. A request that meets the memory limit is
refused and ends the process, as nothing that was allocated before can be trusted to have been given back.
"""

import os
import sys
from typing import BinaryIO, Final

from app import ed25519
from app.core.documents import canonical
from app.core.documents.json_schema import SchemaLimit, document_flaws, schema_flaws
from app.core.simulation.cel import UnsafeText
from app.core.simulation.evaluation import Evaluation, rule_flaws
from app.core.simulation.plan import EngineMismatch, Evaluator, InvalidInputs, simulate
from app.errors import Flaw
from app.sandbox import frames, limits


def main() -> None:
    """Serve until the input ends."""
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    limits.confine()
    serve(sys.stdin.buffer, answers, Evaluation(ed25519.verify))


def serve(requests: BinaryIO, answers: BinaryIO, evaluator: Evaluator) -> None:
    """Answer request after request; ends with the input, with rubbish, or with memory."""
    _write(answers, frames.encode(frames.Ready()))
    while header := requests.read(frames.HEADER.size):
        request = frames.decode_request(requests.read(frames.length_of(header, bytes_max=frames.REQUEST_BYTES_MAX)))
        limits.grant_cpu()
        try:
            answer = frames.encode(_answer(request, evaluator))
        except MemoryError:
            answer = _OUT_OF_MEMORY
        _write(answers, answer)
        if answer is _OUT_OF_MEMORY:
            sys.exit(limits.MEMORY_EXIT)


_OUT_OF_MEMORY: Final = frames.encode(frames.Refused("memory-limit", ""))


def _answer(request: frames.Request, evaluator: Evaluator) -> frames.Answer:
    try:
        if isinstance(request, frames.Simulate):
            done = simulate(request.inputs, evaluator)
            return frames.Simulated(canonical.encode_value(done.record), done.after)
        if isinstance(request, frames.CheckPolicies):
            return frames.Flaws(
                [
                    (f"/rules/{index}/expression", flaw.line, flaw.column, rule, flaw.message)
                    for index, (rule, expression) in enumerate(request.rules)
                    for flaw in rule_flaws(expression)
                ]
            )
        return _check_document(request)
    except EngineMismatch:
        return frames.Refused("engine-mismatch", "")
    except MemoryError:
        raise
    except (InvalidInputs, UnsafeText) as error:
        return frames.Refused("invalid-inputs", str(error)[:200])
    except Exception as error:  # noqa: BLE001 - a mistake of ours: its name goes to the operator, never its text
        return frames.Refused("crashed", type(error).__name__)


def _check_document(request: frames.CheckDocument) -> frames.Answer:
    try:
        if request.schema is None:
            return frames.Flaws([])
        found = schema_flaws(request.schema) or document_flaws(request.schema, request.document)
    except SchemaLimit:
        return frames.Flaws([("/schema", 0, 0, "schema-limit", "the schema cannot be applied within the limits")])
    return frames.Flaws([(_root(flaw) + flaw.pointer, 0, 0, flaw.code, flaw.message) for flaw in found])


def _root(flaw: Flaw) -> str:
    return "/schema" if flaw.code == "invalid-schema" else "/document"


def _write(answers: BinaryIO, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[answers.write(view) :]


if __name__ == "__main__":
    main()
