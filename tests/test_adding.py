"""What docs/ARCHITECTURE.md says about adding things, done to a copy of the code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.changed_copy import ChangedCopy, item_with
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer

from stacpull_replicas import EvolvingReplica, run_in_thread


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    """A copy of the package with a filter on items, one on assets, an option, a function and a command."""
    copy = ChangedCopy(tmp_path_factory.mktemp("copy"))
    copy.add("filters/platform.py", PLATFORM)
    copy.insert("selection.py", PLATFORM_FIELD, before="    where: tuple")
    imported = "from stacpull.filters.platform import PlatformCheck\n"
    copy.insert("filters/selection_filter.py", imported, before="FILTERS = (")
    copy.insert("filters/selection_filter.py", "    PlatformCheck,\n", before="    LabelFilter,")
    copy.insert("selection.py", TITLE_FIELD, before="    prefer: tuple")
    copy.insert("filters/asset_filter.py", READ_TITLES, before="    def keeps(self")
    copy.insert("filters/asset_filter.py", TITLE, before="        media_type = media_type_of(")
    copy.insert("config/options.py", KEPT_FIELDS, before="    retries: int")
    copy.insert("engine/mirror.py", KEPT, before="    event_log = context.event_log")
    copy.add("engine/mirror_size.py", SIZE)
    copy.insert("reports.py", SIZE_REPORT, before="class VerifyReport")
    copy.publish("mirror_size", "stacpull.engine.mirror_size")
    copy.add("cli/size_command.py", SIZE_COMMAND)
    copy.insert("cli/__init__.py", SIZE_ENTRY, before='    "verify": (')
    copy.insert("planning/item_plan.py", SHA224, before='"sha1"')
    copy.insert("config/options.py", BUDGET_FIELD, before="    retries: int")
    copy.insert("engine/network.py", BUDGET_SETTING, before="        self.client = Client(")
    copy.insert("net/gate.py", "    budget: int = 0\n", before="class Gate:")
    copy.insert("net/gate.py", BUDGET, before="        if self._why_down is not None")
    copy.insert("selection.py", "    daily: bool = option(False, help='?')\n", before="    seed: int")
    copy.insert("engine/walk.py", DAILY, before="class Walk:")
    copy.insert("engine/walk.py", DAILY_EFFECT, before="        self._keeps_position =")
    copy.insert("models.py", LOCKED, before="    SERVER = ")
    copy.insert("net/status.py", LOCKED_STATUS, before="        case 412:")
    copy.insert("reports.py", BARE_FIELD, before="    assets_excluded: int = 0")
    copy.insert("ledger/batch_writer.py", BARE_COUNT, before='_result.count("assets_excluded"')
    copy.insert("cli/summary.py", BARE_LINE, before="    if report.assets_excluded:")
    copy.insert("planning/names.py", 'OUTPUTS["tally"] = "tally.txt"\n', before="_FILES: Final")
    copy.insert("config/options.py", TALLY_FIELD, before="    retries: int")
    copy.install("tally", TALLY, "[stacpull.outputs]\ntally.txt = tally:TALLY\n")
    return copy


# A filter on items: its class states the reason that reports show, and what is pushed down.

PLATFORM_FIELD = """\
    platforms: tuple[str, ...] = attrs.field(
        default=(),
        converter=arguments.read_texts,
        metadata=as_option("NAME", help="Keep items of this platform."),
    )
"""
PLATFORM = '''
from stacpull.filters.item_filters import ItemFilter


class PlatformCheck(ItemFilter):
    """`--platform`: keeps the items of certain platforms."""

    fields = ("platforms",)
    warned_reason = "other platform"
    warning = "of another platform."

    def __init__(self, platforms):
        self._platforms = platforms

    def __call__(self, item, properties):
        return None if properties.get("platform") in self._platforms else "other platform"

    def pushed_down(self):
        wanted = [{"op": "=", "args": [{"property": "platform"}, one]} for one in self._platforms]
        return {"condition": {"op": "or", "args": wanted} if len(wanted) > 1 else wanted[0]}
'''


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.ndjson"
    time = {"datetime": "2020-01-01T00:00:00Z"}
    platforms = {"a": "s1", "b": "s2", "c": "s2"}
    items = (feature(name, properties={**time, "platform": one}) for name, one in platforms.items())
    path.write_text("\n".join(map(json.dumps, items)))
    return path


def test_the_command_has_applies_and_reports_a_filter_on_items(copy, items, tmp_path):
    assert "--platform NAME" in copy.output("mirror", "--help", "all")
    ran = copy.run("mirror", items, tmp_path / "m", "--platform", "s1", "--json")
    report = ran.report
    assert (report["items_matched"], report["items_left_out"]) == (1, {"other platform": 2})
    assert "left out 2 items (other platform: 2)" in ran.err
    assert "2 items left out: of another platform." in ran.err
    assert json.loads(copy.output("status", tmp_path / "m", "--json"))["selection"]["platforms"] == ["s1"]


def test_a_config_file_sets_a_filter_on_items_and_plan_and_headers_apply_it(copy, items, tmp_path):
    (tmp_path / "c.toml").write_text('platform = ["s2"]\n')
    assert "2 match" in copy.output("plan", items, "--config", tmp_path / "c.toml")
    ran = copy.run("headers", items, "--platform", "s1", "--json", "-o", tmp_path / "h.csv")
    assert ran.report["items_matched"] == 1


def test_a_filter_on_items_is_pushed_down(copy: ChangedCopy) -> None:
    printed = copy.evaluated(
        "from stacpull import Selection\n"
        "from stacpull.filters.selection_filter import push_down\n"
        "print(push_down(Selection(platforms='s1', max_cloud_cover=5)).condition)"
    )
    platform = {"op": "=", "args": [{"property": "platform"}, "s1"]}
    cloud = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 5.0]}
    assert printed.strip() == str({"op": "and", "args": [cloud, platform]})


# A filter on assets.

TITLE_FIELD = """\
    titles: tuple[str, ...] = attrs.field(
        default=(),
        converter=arguments.read_texts,
        metadata=as_option("TEXT", help="Fetch only assets with this title."),
    )
"""
READ_TITLES = "        self.titles = selection.titles\n        self.reads_members |= bool(self.titles)\n\n"
TITLE = "        if self.titles and members.get('title') not in self.titles:\n            return False\n"


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """A collection with an item of three assets, the last of which only the collection gives a title."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.bin").write_text(name)
    item = feature("i", {key: f"{key}.bin" for key in "abc"})
    item["links"] = [{"rel": "collection", "href": "./collection.json"}]
    item["assets"]["a"]["title"], item["assets"]["b"]["title"] = "Red", "Blue"
    own = collection(item_assets={"c": {"title": "Red"}}, links=[{"rel": "item", "href": "./i.json"}])
    (folder / "i.json").write_text(json.dumps(item))
    (folder / "collection.json").write_text(json.dumps(own))
    return folder / "collection.json"


def test_only_the_assets_of_a_filter_are_fetched(copy: ChangedCopy, assets: Path, tmp_path: Path) -> None:
    def mirrored(*arguments: str) -> tuple[Any, set[str]]:
        ran = copy.run("mirror", assets, tmp_path / "m", "--json", *arguments)
        assert ran.code == 0, ran.err
        return ran.report, {path.stem for path in (tmp_path / "m").rglob("*.bin")}

    assert "--title TEXT" in copy.output("mirror", "--help", "all")
    report, files = mirrored("--title", "Red")
    assert (report["assets_done"], report["assets_excluded"], files) == (2, 1, {"a", "c"})
    assert mirrored("--title", "Red", "--title", "Blue")[1] == {"a", "b", "c"}
    (tmp_path / "c.toml").write_text('title = "Blue"\n')
    plan = copy.output("plan", assets, "--config", tmp_path / "c.toml")
    assert "assets   1; 2 left out (a: 1, c: 1)" in plan


# An option is declared in one file and used in another. tests/config/test_resolve.py has all of them.

KEPT_FIELDS = """\
    farewell: str = option("k", "WORD", help="?", remembered=True)
    signature: str = option("f", "WORD", help="?", fixed=True)
"""
KEPT = '    print(f"{options.farewell}, {options.signature}")\n'


def test_resume_and_retry_use_kept_and_fixed_values_again_and_refuse_another_fixed_one(copy, tmp_path):
    """The first run stops at the first failure: none of its files exists."""
    dest, limits = tmp_path / "m", ("--max-failures", "1", "--concurrency", "1")
    (tmp_path / "item.json").write_text(item_with({f"a{n}": {"href": f"{n}.bin"} for n in range(60)}))
    ran = copy.run("mirror", tmp_path / "item.json", dest, "--farewell", "hi", "--signature", "hi", *limits)
    assert ran.out.startswith("hi, hi\n")
    refused = copy.run("resume", dest, "--signature", "new")
    assert (refused.code, "`stacpull mirror SOURCE DEST --signature ...`" in refused.err) == (2, True)
    assert "hi, hi\n" in copy.output("resume", dest, *limits)
    assert "new, hi\n" in copy.output("resume", dest, "--farewell", "new", *limits)
    assert "k, hi\n" in copy.output("retry", dest)


# A public function: its module, its result, and its name in two files. A command takes two.

SIZE = '''
import asyncio

from stacpull.engine.mirror_status import status
from stacpull.reports import SizeReport


async def mirror_size(dest):
    """Return how large the mirror at `dest` is."""
    found = await asyncio.to_thread(status, dest)
    return SizeReport(found.assets_done, found.bytes_done)
'''
SIZE_REPORT = '''\
class SizeReport(PublicValue, frozen=True):
    """How large a mirror is, in bytes."""

    files: int
    bytes: int


'''
SIZE_COMMAND = '''
from stacpull.cli import parameters
from stacpull.cli.command import command


@command("size", parameters.dest(), *parameters.by_name("work", "json", "quiet"), examples=["size s2"])
def size(session, dest):
    """It counts its files and their bytes."""
    from stacpull.engine.mirror_size import mirror_size

    report = session.run_cancellable(mirror_size(dest))
    return session.finish(report, [f"{report.files} files, {report.bytes} bytes"])
'''
SIZE_ENTRY = '    "size": (f"{_CLI}size_command:size", "Print how large the mirror in DEST is."),\n'


def test_a_command_is_listed_and_its_function_is_public(copy: ChangedCopy, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("12345")
    (tmp_path / "item.json").write_text(item_with({"a": {"href": "a.bin"}}))
    dest = tmp_path / "m"
    assert copy.run("mirror", tmp_path / "item.json", dest).code == 0
    assert "Print how large the mirror in DEST is." in copy.output("--help")
    assert "stacpull size s2" in copy.output("size", "--help")
    assert copy.run("size", dest).out == "1 files, 5 bytes\n"
    assert copy.run("size", dest, "--json").report == {"files": 1, "bytes": 5}
    nowhere = copy.run("size", dest / "nowhere")
    assert (nowhere.code, nowhere.err.startswith("stacpull: ")) == (2, True)
    printed = copy.evaluated(
        "import asyncio, stacpull, stacpull.sync\n"
        f"print(asyncio.run(stacpull.mirror_size({str(dest)!r})).bytes)\n"
        f"print(stacpull.sync.mirror_size({str(dest)!r}).files)\n"
        "print('mirror_size' in stacpull.__all__, 'mirror_size' in dir(stacpull))"
    )
    assert printed == "5\n1\nTrue True\n"


LOCKED = '    LOCKED = "locked", "locked by its owner", "ask the owner, then retry"\n'
LOCKED_STATUS = "        case 423:\n            return FailureKind.LOCKED\n"


def test_a_kind_of_failure_is_a_line_and_the_place_that_finds_it(copy: ChangedCopy, tmp_path: Path) -> None:
    dest = tmp_path / "m"
    with WireServer({"/a.bin": [Answer(423)]}) as server:
        (tmp_path / "item.json").write_text(item_with({"a": {"href": server.url("/a.bin")}}))
        ran = copy.run("mirror", tmp_path / "item.json", dest, "--allow-private-hosts")
    assert "  failed   1 locked by its owner; ask the owner, then retry\n" in ran.err + ran.out
    assert "locked" in copy.output("failures", dest)


# A number of a run's report: its field, the place that counts it, and its line.

BARE_FIELD = '''\
    items_bare: int = 0
    """Items without assets."""
'''
BARE_COUNT = '            self._result.count("items_bare", not item.assets)\n'
BARE_LINE = """\
    if report.items_bare:
        yield f"  bare     {quantity(report.items_bare, 'item')} without assets"
"""


def test_a_number_is_counted_printed_and_part_of_the_json(copy: ChangedCopy, tmp_path: Path) -> None:
    source = tmp_path / "items.ndjson"
    items = (item_with({}, "a"), item_with({"a": {"href": "missing.bin"}}, "b"), item_with({}, "c"))
    source.write_text("\n".join(items))
    ran = copy.run("mirror", source, tmp_path / "m", "--json")
    assert ran.report["items_bare"] == 2
    assert "  bare     2 items without assets\n" in ran.err
    assert copy.run("mirror", source, tmp_path / "m", "--asset", "none", "--json").report["items_bare"] == 3


# A checksum of items, a limit per host, and a filter that compares items.

SHA224 = '    b"\\x93\\x20\\x1c": "sha224",\n'
BUDGET_FIELD = '    budget: int = option(0, "N", help="Requests to each host.")\n'
BUDGET_SETTING = "        gate_settings = gate_settings._replace(budget=options.budget)\n"
BUDGET = """\
        self._sent = getattr(self, "_sent", 0) + 1
        if self._sent == self._settings.budget + 1 > 1:
            self._mark_down(Failure(FailureKind.DOWN, "Its budget is spent.", host=self.host), 3600.0)
"""
DAILY = """\
class Daily(Sample):
    def offer(self, item):
        day = item.document["properties"]["datetime"][:10]
        self._drawn.setdefault(day, _Drawn(0, item.id, None, item.url, json.dumps(item.document)))
"""
DAILY_EFFECT = "        self._sample = Daily(sys.maxsize, 0) if selection.daily else self._sample\n"


def test_a_checksum_a_limit_per_host_and_a_filter_with_state(copy: ChangedCopy, tmp_path: Path) -> None:
    right, wrong = ("93201c" + hashlib.sha224(content).hexdigest() for content in (b"x", b"y"))
    with WireServer({f"/{key}": [Answer(body=b"x")] for key in "abcde"}) as server:
        files = {key: {"href": server.url(f"/{key}"), "file:checksum": right} for key in "abcde"}
        files["a"]["file:checksum"] = wrong
        path, limits = tmp_path / "items.ndjson", ("--budget", "3", "--retries", "0", "--allow-private-hosts")
        path.write_text(item_with(files) + "\n" + item_with(files, "of the same day"))
        report = copy.run("mirror", path, tmp_path / "m", "--daily", *limits, "--json").report
    assert [report[f"assets_{state}"] for state in ("done", "failed", "pending")] == [2, 1, 2]


# A new kind of login is a module and an entry point; a provider of a known kind is one file.

BADGE = '''"""`kind = "badge"`: the number of a badge in a header field of every request."""

from collections.abc import Mapping

import attrs

from stacpull.arguments import integer
from stacpull.option_fields import with_readers
from stacpull_logins.logins import LoginKind, login_key
from stacpull.redact import Secret


@attrs.frozen(field_transformer=with_readers)
class Badge(LoginKind):
    """A badge."""

    pin: Secret = login_key(secret=True)
    floor: int = login_key(default=1, read=integer(0))

    @property
    def headers(self) -> Mapping[str, Secret]:
        """The header field."""
        return {"X-Badge": Secret(f"{self.floor}-{self.pin.reveal()}")}
'''
OF_A_NEW_KIND = '[login.door]\nkind = "badge"\nhosts = ["{host}"]\npin = "${{PIN}}"\nfloor = 3\n'
OF_A_KNOWN_KIND = """
about = "A door that asks for a badge"

[login.door]
kind = "header"
hosts = ["{host}"]
name = "X-Badge"
value = "${{BADGE}}"
"""


@pytest.mark.parametrize("is_new", [True, False], ids=["a new kind", "a new provider"])
def test_a_login_is_one_file_of_a_known_kind(copy: ChangedCopy, tmp_path: Path, is_new: bool) -> None:
    def guarded(request: Any) -> Answer:
        is_right = request.headers.get("x-badge") == "3-s3cr3t"
        return Answer(body=b"open") if is_right else Answer(401, b"no")

    with WireServer({"/a.bin": guarded}) as server:
        host, profile = server.url(""), "door"
        if is_new:
            copy.install("badge", BADGE, "[stacpull.logins]\nbadge = badge:Badge\n")
            profile = str(tmp_path / "p.toml")
            Path(profile).write_text(OF_A_NEW_KIND.format(host=host))
        else:
            copy.add("configs/providers/door.toml", OF_A_KNOWN_KIND.format(host=host))
            assert "A door that asks for a badge" in copy.output("credentials", "list")
        (tmp_path / "item.json").write_text(item_with({"a": {"href": f"{host}/a.bin"}}))
        arguments = ("--credentials", profile, "--allow-private-hosts", "--retries", "0")
        mirror = ("mirror", tmp_path / "item.json", tmp_path / "m", *arguments)
        name, value = ("PIN", "s3cr3t") if is_new else ("BADGE", "3-s3cr3t")
        ran = copy.run(*mirror)
        assert (ran.code, f"set {name}" in ran.err) == (3, True)
        ran = copy.run(*mirror, **{name: value})
        assert ran.code == 0, ran.out + ran.err
        assert [request.headers.get("x-badge") for request in server.requests] == ["3-s3cr3t"]
        assert (tmp_path / "m/c/i/a.bin").read_bytes() == b"open"
        assert "s3cr3t" not in ran.out + ran.err


# A new kind of DEST is a module and an entry point. This one is a directory that is named by a URL.

SHELF = """
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

from stacpull.models import BucketLocation
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.local_store import LocalStore


class ShelfStore(LocalStore):
    is_local = sync_covers_ledger = False

    def __init__(self, staged, folder):
        super().__init__(folder)
        self.staged.close()
        self.staged = staged


class Shelves:
    variables = ("SHELF_",)

    def parse(self, url):
        shelf, _, prefix = url.removeprefix("shelf://").partition("/")
        return BucketLocation(shelf, prefix, scheme="shelf")

    def resolved(self, location):
        return location

    def _folder(self, location):
        folder = Path(os.environ["SHELF_ROOT"], location.bucket, location.prefix)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def open_store(self, staged, location, hooks):
        return ShelfStore(staged, self._folder(location))

    def open_files(self, location, hooks):
        return DirectoryFiles(self._folder(location))

    def lease(self, store):
        return nullcontext(SimpleNamespace(mirror="", epoch=1, continues=False, taken_from=None, secrets=()))


SHELVES = Shelves()
"""


def test_a_kind_of_dest_is_one_file_and_an_entry_point(copy: ChangedCopy, tmp_path: Path) -> None:
    copy.install("shelf", SHELF, "[stacpull.stores]\nshelf = shelf:SHELVES\n")
    (tmp_path / "a.bin").write_text("open")
    (tmp_path / "item.json").write_text(item_with({"a": {"href": "a.bin"}}))
    dest = ("shelf://top/left", "--work", tmp_path / "w")
    ran = copy.run("mirror", tmp_path / "item.json", *dest, SHELF_ROOT=str(tmp_path / "shelves"))
    assert ran.code == 0, ran.out + ran.err
    folder = tmp_path / "shelves" / "top" / "left"
    assert (folder / "c/i/a.bin").read_text() == "open"
    assert (folder / "catalog.json").exists()
    (folder / "c/i/a.bin").write_text("lost")
    ran = copy.run("verify", *dest, SHELF_ROOT=str(tmp_path / "shelves"))
    assert (ran.code, "c/i/a.bin" in ran.out) == (1, True)


# An output of `mirror` is a module, an entry point, a line of OUTPUTS, and an option.

TALLY_FIELD = '    tally: bool | None = option(None, help="?", remembered=True, commands="mirror")\n'
TALLY = """
from stacpull.catalog.catalog_tree import MirrorOutput
from stacpull.errors import UsageError


def check(options):
    if options.metadata == "none":
        raise UsageError("--tally needs items.")


def update(publisher, entries):
    lines = [f"{entry.id}: {len([*entry.items()])}" for entry in entries]
    publisher.write_file("tally.txt", "\\n".join(lines).encode())
    return ["tallied"]


TALLY = MirrorOutput(check, update, {"tally": {"href": "tally.txt"}})
"""


def test_an_output_is_kept_linked_verified_repaired_and_removed(copy, items, tmp_path):
    dest = tmp_path / "m"
    file = dest / "tally.txt"
    ran = copy.run("mirror", items, dest, "--tally")
    assert (ran.code, "warning: tallied" in ran.err) == (0, True), ran.out + ran.err
    assert file.read_text() == "c: 3"
    document = json.loads((dest / "c/collection.json").read_text())
    assert document["assets"] == {"tally": {"href": "../tally.txt"}}
    assert copy.run("verify", dest, "--strict").code == 0
    assert "SOURCE is the catalog of the mirror" in copy.run("mirror", file, dest).err
    file.write_text("c: 4")
    assert copy.run("verify", dest, "--repair").code == 0
    assert file.read_text() == "c: 3"
    items.write_text("\n".join([*items.read_text().splitlines(), item_with({}, "d")]))
    assert copy.run("mirror", items, dest).code == 0
    assert file.read_text() == "c: 4"
    assert copy.run("mirror", items, dest, "--no-tally").code == 0
    assert not file.exists()
    assert copy.run("verify", dest).code == 0


def test_an_output_is_checked_first_and_forgets_what_is_pruned(copy: ChangedCopy, tmp_path: Path) -> None:
    dest = tmp_path / "m"
    with run_in_thread(EvolvingReplica(items=3)) as replica:
        mirror = ("mirror", replica.base_url, dest, "--retries", "0")
        refused = copy.run(*mirror, "--tally", "--metadata", "none")
        assert (refused.code, "--tally needs items." in refused.err, dest.exists()) == (2, True, False)
        assert copy.run(*mirror, "--tally").code == 0
        replica.items.popitem()
        assert copy.run(*mirror, "--prune=remove").code == 0
    assert (dest / "tally.txt").read_text() == "evolving: 2"
