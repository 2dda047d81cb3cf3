"""What to use instead of an option, command or argument that does not exist."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import orjson

from stacpull.errors import StacpullError, UsageError, quantities, similar
from stacpull.events import AssetFailed, Event, Notice, RunEnded
from stacpull.models import NOT_FAILURES, count_failures

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
        _refuse_unknown(cls.__name__, named, attrs.fields_dict(cls), _argument_classes())
        return super().__new__(cls)

    def __repr__(self) -> str:
        unset = type(self)()
        shown = []
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.repr and value != getattr(unset, field.name):
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _argument_classes() -> list[type[Any]]:  # attrs leaves the class without slots that each is made from
    return [kind for kind in Arguments.__subclasses__() if attrs.has(kind)]


class ProblemLog:
    """Logs warnings, and how much has failed: the listener of a program that has none."""

    example = ""

    def __call__(self, event: Event) -> None:
        text = ""
        if isinstance(event, Notice) and event.level == "warning":
            text = event.text
        elif isinstance(event, AssetFailed) and event.kind not in NOT_FAILURES:
            self.example = self.example or f" For example: {event.message}"
        elif isinstance(event, RunEnded):
            assets = count_failures(event.counts, int(event.counts.get("assets_accepted", 0)))
            failed = [f"{assets:,} of {event.counts['assets_planned']:,} assets"] if assets else []
            failed += quantities((int(event.counts.get("items_failed", 0)), "item"))
            if failed:
                text = f"{' and '.join(failed)} failed; see stacpull.failures.{self.example}"
        if text:
            import logging  # noqa: PLC0415 -- the store process does not need it

            logging.getLogger("stacpull").warning("%s", text.encode("utf-8", "replace").decode())


@functools.cache
def with_advice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a public function that answers an unknown argument, and logs problems if it has no listener."""
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        holders = {"Selection": "selection", "Options": "options", "S3Options": "options"}
        kinds = [kind for kind in _argument_classes() if holders.get(kind.__name__) in parameters]
        _refuse_unknown(function.__name__, named, parameters, kinds)
        unnamed = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
        if len(positional) > len(unnamed):
            raise TypeError(f"{function.__name__}({', '.join(unnamed)}): name the others, like selection=...")
        if "on_event" in parameters:
            listener = named.get("on_event")
            named["on_event"] = ProblemLog() if listener is None else listener
            if not callable(named["on_event"]) or inspect.iscoroutinefunction(listener):
                raise UsageError("on_event must be a function, and not a coroutine function.")
        return function(*positional, **named)

    @functools.wraps(function)
    async def call_async(*positional: Any, **named: Any) -> Any:
        try:
            return await call(*positional, **named)
        except StacpullError as error:
            if error.__suppress_context__:
                error.__context__ = None  # with a group in it, IPython prints the error as plain text
            raise

    return call_async if inspect.iscoroutinefunction(function) else call


def _refuse_unknown(owner: str, named: Iterable[str], known: Collection[str], kinds: Iterable[type]) -> None:
    unknown = next((name for name in named if name not in known), None)
    if unknown is None:
        return
    uses = {argument: argument for argument in known}
    for kind in kinds:
        for argument, field in attrs.fields_dict(kind).items():
            use = uses.setdefault(argument, f"{kind.__name__}({argument}=...)")
            option = field.metadata.get("option", {}).get("name", argument)
            uses[option.replace("-", "_")] = use
    uses["credentials"] = "stacpull.profile_options(options, name)"
    uses["config"] = "Selection and Options, as only the command line reads a config"
    words = [option.replace("-", "_") for option, _ in _options_for(unknown.replace("_", "-"))]
    words += [unknown, *similar(unknown, uses, cutoff=0.7)]
    hint = next((f": use {uses[word]}" for word in words if word in uses), "")
    raise TypeError(f"{owner}() has no argument {unknown!r}{hint}.")
