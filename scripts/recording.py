"""Record the progress display at 80 columns: see `scripts/record-progress`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import pyte
from PIL import Image, ImageDraw, ImageFont
from tests.cli.terminal import Terminal

from stacpull_replicas import MlhubReplica, run_in_thread

COMMAND = Path(sys.executable).with_name("stacpull")
COLUMNS, ROWS = 80, 24  # of a `Terminal`
ITEMS = 40
PROMPT = (
    "$ stacpull mirror http://127.0.0.1:8801/mlhub/v1 rice \\\r\n"
    "    -C bigearthnet_v1_labels --config bigearthnet\r\n"
)

_SIZE = 16
_CELL = (9.65, 20)
_PADDING = 16
_BACKGROUND = "#1e1e2e"
_COLOURS = {
    "default": "#cdd6f4",
    "red": "#f38ba8",
    "green": "#a6e3a1",
    "brown": "#f9e2af",
    "yellow": "#f9e2af",
}


class Recording(Terminal):
    """A terminal that keeps what was written to it, and when."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.events: list[tuple[float, str]] = []
        self._begun = time.monotonic()
        super().__init__(command, columns=COLUMNS, env=env)
        self.feed(PROMPT.encode())

    def feed(self, data: bytes) -> None:
        self.events.append((time.monotonic() - self._begun, data.decode("utf-8", "replace")))
        super().feed(data)

    def save(self, path: Path) -> None:
        head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "stacpull mirror"}
        lines = [json.dumps(head), *(json.dumps([round(at, 3), "o", text]) for at, text in self.events)]
        path.write_text("\n".join(lines) + "\n")


def drawn(screens: list[list[list[pyte.screens.Char]]]) -> Image.Image:
    rows = sum(map(len, screens))
    gap = _PADDING * 2
    width = round(COLUMNS * _CELL[0]) + 2 * _PADDING
    picture = Image.new("RGB", (width, rows * _CELL[1] + gap * len(screens)), _BACKGROUND)
    pen = ImageDraw.Draw(picture)
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(fonts / "DejaVuSansMono.ttf"), _SIZE)
    braille = ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), _SIZE)  # the spinner; the other font has none
    top = 0
    for number, screen in enumerate(screens):
        if number:
            pen.line([(_PADDING, top), (width - _PADDING, top)], fill="#45475a")
        for row, line in enumerate(screen):
            for column, char in enumerate(line):
                at = (_PADDING + column * _CELL[0], top + _PADDING + row * _CELL[1])
                used = braille if "\u2800" <= char.data <= "\u28ff" else font
                if char.data == "\u2588":  # without the seams between the glyphs of a bar
                    pen.rectangle([*at, at[0] + _CELL[0], at[1] + _CELL[1] - 2], fill=_COLOURS[char.fg])
                    continue
                pen.text(at, char.data, font=used, fill=_COLOURS.get(char.fg, _COLOURS["default"]))
        top += len(screen) * _CELL[1] + gap
    return picture


def screen_of(terminal: Terminal) -> list[list[pyte.screens.Char]]:
    screen = terminal.screen
    kept = [row for row, line in enumerate(screen.display) if line.strip()]
    return [[screen.buffer[row][column] for column in range(COLUMNS)] for row in kept]


def record(to: Path) -> None:
    replica = MlhubReplica(items=ITEMS, seed=7, latency_ms=60)
    with run_in_thread(replica), tempfile.TemporaryDirectory() as work:
        own = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STACPULL_"))
        }
        env = {**own, **replica.exports(), "AWS_EC2_METADATA_DISABLED": "true"}
        os.chdir(work)
        options = ["--config", "bigearthnet", "-C", "bigearthnet_v1_labels", "--concurrency", "8"]
        with Recording([str(COMMAND), "mirror", replica.base_url, "rice", *options], env) as terminal:
            terminal.wait_for(lambda seen: re.search(r"\b3\d\d of 520", seen.text) is not None, 60)
            moments = [screen_of(terminal)]
            terminal.ended(120)
            moments.append(screen_of(terminal)[2:-1])  # without the command and the prompt of the shell
            terminal.save(to / "progress.cast")
    drawn(moments).save(to / "progress.png", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    record(parser.parse_args().to.resolve())
