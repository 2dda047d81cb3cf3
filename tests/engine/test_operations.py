"""What the network process calls by name is an operation with these arguments and this result."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType, NoneType
from typing import get_type_hints

import pytest

from stacpull.engine import job_producer, mirror, prune, store_process
from stacpull_dask import coordinator

CALLERS = (mirror, prune, job_producer, coordinator)


def calls(module: ModuleType) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Call(func, [ast.Constant(), *_]) if ast.unparse(func).endswith("call"):
                yield node


@pytest.mark.parametrize("module", CALLERS)
def test_calls_agree_with_their_operations(module: ModuleType) -> None:
    for call in calls(module):
        operation = store_process.OPERATIONS[ast.literal_eval(call.args[0])]
        hints = get_type_hints(operation)
        returns = (eval(ast.unparse(one.value), vars(module)) for one in call.keywords)  # noqa: S307
        assert next(returns, NoneType) == hints.pop("return"), operation
        assert len(call.args) - 1 == len(hints) - ("db" in hints), operation


def test_every_operation_is_called() -> None:
    called = {ast.literal_eval(call.args[0]) for module in CALLERS for call in calls(module)}
    assert called == store_process.OPERATIONS.keys()
