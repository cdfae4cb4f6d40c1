"""A worker that gets ready and then answers with what its first argument names."""

import os
import sys

from app.sandbox import frames

ANSWERS = {
    "noise": b"\0\0\0\x05hello",
    "huge": b"\xff\xff\xff\xff",
    "other": frames.encode(frames.Flaws([])),
    "half": b"\0\0\x01\0half",
}

os.write(1, frames.encode(frames.Ready()))
while request := os.read(0, 65536):
    os.write(1, ANSWERS[sys.argv[1]])
    if sys.argv[1] == "half":
        sys.exit(0)
