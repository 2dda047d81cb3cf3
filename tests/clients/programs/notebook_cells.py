"""Runs the cells of a notebook, given as a JSON list, and prints as JSON what each printed and showed.

As in a notebook, the value of a last line that is an expression is shown. IPython's own lines (`%matplotlib
inline`) are left out.
"""

import ast
import contextlib
import io
import json
import sys
from pathlib import Path

names: dict[str, object] = {"__name__": "__main__"}
seen = []
for cell in json.loads(Path(sys.argv[1]).read_text()):
    text = "\n".join(line for line in cell.split("\n") if not line.startswith("%"))
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, shown = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - the cells are the user's own program
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307 - likewise
    seen.append({"printed": printed.getvalue(), "shown": None if shown is None else repr(shown)})
json.dump(seen, sys.stdout)
