"""What the network process may call is an operation with the same arguments and result."""

import inspect
from pathlib import Path

import pytest
from tests.engine.bench import Bench

from stacpull.engine.messages import CALLS, StoreCalls


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_has_the_arguments_and_the_result_of_its_call(name: str, tmp_path: Path) -> None:
    declared = inspect.signature(getattr(StoreCalls, name), eval_str=True)
    operation = inspect.signature(getattr(Bench(tmp_path).operations, name), eval_str=True)
    parameters = [one.replace(default=one.empty) for one in operation.parameters.values()]
    assert parameters == [*declared.parameters.values()][1:]
    assert operation.return_annotation == declared.return_annotation


def test_nothing_else_may_be_called(tmp_path: Path) -> None:
    assert {*CALLS} == {name for name in dir(Bench(tmp_path).operations) if not name.startswith("_")}
