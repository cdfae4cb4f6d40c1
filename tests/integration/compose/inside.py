"""What tests run inside a world: a stack with the stand-in service. Says what happens, one line each, on stdout."""

import asyncio
import sys
from pathlib import Path

import slo.profiles
from compose.stack import Stack, StackSpec, default_folder


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(logs: Path) -> None:
    spec = StackSpec(
        folder=default_folder(),
        logs=logs,
        profile=slo.profiles.load("fast"),
        service_path=Path(__file__).parent / "stand_in",
    )
    async with Stack.start(spec, progress=say) as stack:
        say(f"up {stack.ports.front} {' '.join(sorted(await stack.haproxy.serving()))}")
    say("down")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
