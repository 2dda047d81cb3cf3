"""What the network process calls by name is an operation with these arguments and this result."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, NoneType

import pytest
from tests.engine.bench import Bench

from stacpull.engine import batch_sender, mirror, prune, store_client
from stacpull_dask import coordinator

CALLERS = (mirror, prune, batch_sender, store_client, coordinator)


def calls(module: ModuleType) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Call(func, [ast.Constant(), *_]) if ast.unparse(func).endswith("call"):
                yield node


@pytest.mark.parametrize("module", CALLERS)
def test_calls_agree_with_their_operations(module: ModuleType, tmp_path: Path) -> None:
    operations = Bench(tmp_path).operations
    for call in calls(module):
        operation = inspect.signature(getattr(operations, ast.literal_eval(call.args[0])), eval_str=True)
        returns = (eval(ast.unparse(one.value), vars(module)) for one in call.keywords)  # noqa: S307
        assert next(returns, NoneType) == (operation.return_annotation or NoneType), ast.unparse(call)
        assert len(call.args) - 1 == len(operation.parameters), ast.unparse(call)


def test_every_operation_is_called(tmp_path: Path) -> None:
    public = {name for name in dir(Bench(tmp_path).operations) if not name.startswith("_")}
    called = {ast.literal_eval(call.args[0]) for module in CALLERS for call in calls(module)}
    assert called == public
