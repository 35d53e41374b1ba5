"""Text for people: titles, aligned tables, a progress line on a terminal; plain lines where there is none."""

import os
from collections.abc import Callable, Sequence
from typing import TextIO

WIDTH = 100


class Output:
    """Writes to one stream. Colours and progress only on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._has_colours = self._is_terminal and not os.environ.get("NO_COLOR")
        self._has_signs = (stream.encoding or "").lower().startswith("utf")
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def title(self, text: str) -> None:
        """Begin a part of the story."""
        self._write(f"\n{self._styled(text, '1')}\n{('─' if self._has_signs else '-') * len(text)}\n")

    def line(self, text: str = "") -> None:
        """Write one line."""
        self._write(f"{text}\n")

    def good(self, text: str) -> None:
        """Write a line about something that holds."""
        self._write(f"{self._styled('✓' if self._has_signs else 'ok:', '32')} {text}\n")

    def bad(self, text: str) -> None:
        """Write a line about something that does not."""
        self._write(f"{self._styled(('✗ ' if self._has_signs else 'FAILED: ') + text, '31')}\n")

    def command(self, text: str) -> None:
        """Write a command as one would type it."""
        self._write(f"{self._styled('$ ' + text, '36')}\n")

    def indented(self, text: str) -> None:
        """Write somebody else's output."""
        for line in text.strip().splitlines():
            self._write(f"    {line}\n")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write rows in aligned columns; numbers to the right."""
        texts = [[_text(cell) for cell in row] for row in rows]
        widths = [max(len(line[column]) for line in [list(header), *texts]) for column in range(len(header))]
        to_right = [all(isinstance(row[column], int) for row in rows) for column in range(len(header))]
        for number, line in enumerate([list(header), *texts]):
            cells = zip(line, widths, to_right, strict=True)
            text = "  ".join(
                cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells
            )
            self._write((self._styled(text, "2") if number == 0 else text.rstrip()) + "\n")

    def progress(self, label: str) -> Callable[[int, int], None]:
        """A function to call with (done, total); shows a line that goes away when all is done."""

        def show(done: int, total: int) -> None:
            if self._is_terminal and (done % 50 == 0 or done >= total):
                text = f"{label}: {done:,} of {total:,}" if done < total else ""
                self._write(f"\r{text:<60}\r")

        return show

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._has_colours else text

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def clipped(text: str, width: int = WIDTH) -> str:
    """The text, cut with an ellipsis where it is longer than `width`."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
