"""A newcomer's session: serve, export, collections, classes, plan, mirror, status, demo."""

import shlex
import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.acceptance.command import LABELS, SOURCE, Running, environment, mirror_of, run, wait_until
from tests.acceptance.trees import files_in
from tests.ran import Ran
from tests.serving import free_ports

SELECTION = ("--label", "Coniferous forest", "--label", "Rice fields", "--no-seasonal-snow")


@pytest.fixture(scope="module")
def session() -> Iterator[tuple[str, dict[str, str]]]:
    """`stacpull serve mlhub` as a process: the source, and an environment that took its export lines over."""
    port = free_ports(3)
    arguments = ["serve", "mlhub", "--port", str(port), "--items", "60", "--seed", "7"]
    with Running(arguments, environment()) as server:
        printed = ""

        def is_up() -> bool:
            nonlocal printed
            printed = server.printed()
            return "AWS_EC2_METADATA_DISABLED" in printed and printed.endswith("\n")

        assert wait_until(is_up)
        exports = [
            line.removeprefix("export ") for line in printed.splitlines() if line.startswith("export ")
        ]
        pairs = dict(word.split("=", 1) for line in exports for word in shlex.split(line))
        assert pairs.keys() >= {
            "MLHUB_API_KEY",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        }
        assert pairs["AWS_ENDPOINT_URL_S3"].endswith(f":{port + 2}")
        yield f"http://127.0.0.1:{port}/mlhub/v1", environment(**pairs)
        assert server.signal(signal.SIGTERM)
        assert server.ended().code in {0, 130}


def test_collections_and_classes(session: tuple[str, dict[str, str]]) -> None:
    source, env = session
    listed = run(["collections", source, "--json"], env)
    assert listed.code == 0, listed.err
    documents = {document["id"]: document for document in listed.report["collections"]}
    assert {LABELS, SOURCE} <= documents.keys()
    assert documents[LABELS]["doi"] == "10.14279/depositonce-10149"
    plain = run(["collections", source], env)
    assert LABELS in plain.out
    classes = run(["classes", source, "-C", LABELS], env)
    assert classes.code == 0, classes.err
    assert "Rice fields" in classes.out


def test_mirror_does_what_plan_predicts(session, tmp_path):
    source, env = session
    dest = tmp_path / "mirror"
    arguments = mirror_of(source, dest, *SELECTION, "--json")
    without_dest = ["plan", source, *arguments[3:]]
    planned = run(without_dest, env)
    assert planned.code == 0, planned.err
    assert not dest.exists()
    before = run(["plan", *arguments[1:]], env).report
    done = run(arguments, env)
    assert done.code == 0, done.err
    plan, report = planned.report, done.report
    assert (plan["items_seen"], plan["items_matched"]) == (report["items_seen"], report["items_matched"])
    assert plan["assets"] == report["assets_planned"]
    assert plan["assets_excluded"] == report["assets_excluded"]
    assert plan["excluded_keys"] == {"B10": report["items_matched"]}
    assert plan["bytes_total"] == pytest.approx(report["bytes_done"], rel=0.02)
    assert plan["requests"] == pytest.approx(report["requests"], rel=0.1)
    assert (before["assets_pending"], before["assets_done"]) == (plan["assets"], 0)
    after = run(["plan", *arguments[1:]], env).report
    assert (after["assets_pending"], after["assets_done"]) == (0, plan["assets"])
    assert [name for name in files_in(dest) if name.endswith(".tif")]


def test_demo_and_the_commands_it_suggests(tmp_path, forked_command):
    demo = run(["demo", "demo"], environment(), cwd=tmp_path)
    assert demo.code == 0, demo.err
    bands = [band.stat().st_size for band in (tmp_path / "demo" / "bigearthnet").glob("*/*.tif")]
    assert (len(bands), set(bands)) == (5 * 12, {29_192, 7_560, 1_160})
    assert "complete: 65 of 65 files in demo" in demo.out
    assert demo.out.endswith("Open the report of this mirror in a browser: demo.html\n")
    assert "<html" in (tmp_path / "demo.html").read_text()[:200]
    (tmp_path / "demo.html").unlink()
    again = run(["demo", "demo", "--json"], environment(), cwd=tmp_path)
    assert (again.code, again.report["assets_skipped"], again.report["assets_failed"]) == (0, 65, 0)
    assert (tmp_path / "demo.html").exists()
    assert run(["demo", "demo", "-q"], environment(), cwd=tmp_path) == Ran(0, "", "")
    (tmp_path / "mine.html").touch()
    assert run(["demo", "mine"], environment(), cwd=tmp_path).code == 2  # its report would replace the file
    pasted = [line.strip() for line in demo.out.splitlines() if line.startswith("  ")]
    pasted = pasted[next(n for n, line in enumerate(pasted) if "stacpull status" in line) :]
    script = "\n".join(["set -em", *pasted])
    port = str(free_ports(3))
    done = subprocess.run(
        ["bash", "-c", f"PATH={forked_command}:$PATH\n{script.replace('8801', port)}"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "my-mirror").rglob("*.tif"))) >= 5 * 12
