"""What to use instead of an option, command or argument that does not exist."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import orjson

from stacpull.errors import similar

_NAMES = orjson.loads(Path(__file__).with_name("other_names.json").read_bytes())
"""Names in similar tools and earlier versions, and what to use here: a command; or an option or argument
(`dest` for the second one, empty for other advice) and a sentence about it, if the command line has it."""
OTHER_COMMANDS: dict[str, str] = {}
for _names, _command in _NAMES["commands"].items():
    OTHER_COMMANDS |= dict.fromkeys(_names.split(), _command)


def _options_for(name: str) -> Iterator[tuple[str, str]]:
    return (use for names, use in _NAMES["options"].items() if name in names.split())


def advice_on(name: str, options: Collection[str]) -> str | None:
    """Return what to use instead of the option `name` of another tool, where there are these `options`."""
    for option, advice in _options_for(name):
        if not option or option in options:
            return advice
    return None


class Arguments:
    """The base of frozen classes of attrs whose fields are arguments, all of them with defaults."""

    __slots__ = ()
    __attrs_attrs__: ClassVar[Any]

    def __new__(cls, *_positional: object, **named: object) -> Self:
        refuse_unknown(cls.__name__, named, attrs.fields_dict(cls))
        return super().__new__(cls)

    def __repr__(self) -> str:
        unset = type(self)()
        shown = []
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.repr and value != getattr(unset, field.name):
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def refuse_unknown(owner: str, named: Iterable[str], known: Collection[str]) -> None:
    """Raise an error for an argument of `owner` that is not `known`, with the argument to use."""
    unknown = next((name for name in named if name not in known), None)
    if unknown is None:
        return
    uses = {argument: argument for argument in known}
    # attrs leaves the class without slots that each is made from
    for kind in filter(attrs.has, Arguments.__subclasses__()):
        for argument, field in attrs.fields_dict(kind).items():
            use = uses.setdefault(argument, f"{kind.__name__}({argument}=...)")
            option = field.metadata.get("option", {}).get("name", argument)
            uses.setdefault(option.replace("-", "_"), use)
    uses["credentials"] = "stacpull.profile_options(options, name)"
    uses["selection"] = "stacpull.mirror(source, dest, selection=...)"
    uses["config"] = "Selection and Options, as only the command line reads a config"
    uses["dry_run"] = "stacpull.plan(...), or stacpull.trace_estimate(...) for `trace`"
    options = [option.replace("-", "_") for option, _ in _options_for(unknown.replace("_", "-"))]
    options.sort(key=lambda option: option not in known)
    words = [*similar(unknown, known, cutoff=0.9), *options, unknown, *similar(unknown, uses, cutoff=0.7)]
    hint = next((f": use {uses[word]}" for word in words if word in uses), "")
    raise TypeError(f"{owner}() has no argument {unknown!r}{hint}.")
