"""The library behind the command line replaced: its calls, and reports that it returns."""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import stacpull.engine
from stacpull.reports import MirrorReport, PlanReport, StatusReport

COUNTS = {
    "items_seen": 400,
    "items_matched": 5,
    "items_done": 10,
    "assets_planned": 65,
    "assets_done": 65,
    "assets_skipped": 0,
    "assets_failed": 0,
    "assets_missing": 0,
    "assets_pending": 0,
    "bytes_done": 829_000,
    "bytes_fetched": 829_000,
    "seconds": 2.0,
    "requests": 140,
    "retries": 1,
}


def mirror_report(**changes: Any) -> MirrorReport:
    return MirrorReport(**{"state": "complete", "dest": "out dir", **COUNTS, **changes})


def status_report(**changes: Any) -> StatusReport:
    return StatusReport(**{"state": "complete", "dest": "out", "source": "http://s", **COUNTS, **changes})


def plan_report(**changes: Any) -> PlanReport:
    values = {
        "items_seen": 400,
        "items_matched": 5,
        "source_items": 5,
        "assets": 65,
        "assets_excluded": 5,
        "bytes_total": 829_000,
        "bytes_basis": "known",
        "bytes_sampled": 0,
        "requests": 140,
        "hosts": (),
        "excluded_keys": {"B10": 5},
        "seconds_estimated": None,
    }
    return PlanReport(**{**values, **changes})


@dataclass
class Library:
    """Stands for public functions: keeps calls, returns or raises what a test set."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def answer(self, name: str, *given: Any, **named: Any) -> Any:
        self.calls.append((name, given, named))
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer(**named) if callable(answer) else answer

    def only_call(self, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ((given, named),) = [(given, named) for called, given, named in self.calls if called == name]
        return given, named


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()

    def asynchronous(name: str) -> Callable[..., Any]:
        async def call(*given: Any, **named: Any) -> Any:
            answer = library.answer(name, *given, **named)
            return await answer if hasattr(answer, "__await__") else answer

        return call

    def blocking(name: str) -> Callable[..., Any]:
        return lambda *given: library.answer(name, *given)

    replaced = {
        "mirror": ("mirror", "resume", "retry"),
        "estimate": ("plan",),
        "source_contents": ("collections", "classes"),
        "mirror_status": ("status", "failures"),
    }
    for module_name, names in replaced.items():
        module = types.ModuleType(f"stacpull.engine.{module_name}")
        for name in names:
            setattr(module, name, blocking(name) if module_name == "mirror_status" else asynchronous(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(stacpull.engine, module_name, module, raising=False)
    return library
