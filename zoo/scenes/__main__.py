"""Render frames into a data set for ``--data``.

    python -m zoo.scenes --domain room --seeds 0-9 --frames 40 -o room.npz

Frame by frame along the path through each scene, with depth, classes, ToF readings and where to steer
(docs/your_data.md). The same arguments give the same frames.
"""

import argparse
import sys
from pathlib import Path

from fieldtune.console import progress, say
from fieldtune.errors import FieldtuneError
from zoo.loaders.npz import write_npz
from zoo.scenes import DOMAINS, render, sensor


def main(words: list[str] | None = None) -> int:
    """Render and write; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.scenes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--domain", default="room", help=f"one of {', '.join(DOMAINS)}")
    parser.add_argument("--seeds", type=_seeds, default=range(1), help="one scene a seed: 7 or 0-9")
    parser.add_argument("--frames", type=_count, default=40, help="frames of each scene")
    parser.add_argument("--every", type=_count, default=1, help="take every so many along the path")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the .npz file to write")
    arguments = parser.parse_args(words)
    try:
        scenes = [
            render(arguments.domain, seed, arguments.frames * arguments.every)[:: arguments.every]
            for seed in arguments.seeds
        ]
        count = arguments.frames * len(scenes)
        frames = progress((frame for scene in scenes for frame in scene), "rendering", count)
        write_npz(arguments.out, frames, sensor.GEOMETRY)
    except FieldtuneError as error:
        print(f"zoo.scenes: {error}", file=sys.stderr)
        return error.exit_code
    say(f"wrote {arguments.out}: {count} frames of {len(scenes)} scenes")
    return 0


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        found = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        found = range(0)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no seed and no range of seeds; write 7 or 0-9")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of frames; give 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
