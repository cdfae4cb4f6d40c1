"""Owns a world until somebody kills it: says the world's id, then passes on what is said inside."""

import asyncio
import sys

from compose import world


async def main(isolation: str, argv: list[str]) -> int:
    own = await world.start(argv, isolation=isolation)
    sys.stdout.write(f"{own.id} {own.pid}\n")
    sys.stdout.flush()
    assert own.stdout is not None
    async for line in own.stdout:
        sys.stdout.write(line.decode())
        sys.stdout.flush()
    return await own.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
