"""What a command has done, in this process or in one of its own."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The last line of standard output, which `--json` makes an object, and its exit code."""
        report: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        assert report.get("exit_code", self.code) == self.code
        return report

    @property
    def sentences(self) -> list[str]:
        """The command's own lines on standard error."""
        return [line for line in self.err.splitlines() if line.startswith("stacpull: ")]
