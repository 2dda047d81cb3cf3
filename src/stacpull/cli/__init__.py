"""The command line: the list of commands, their modules, and what these share."""

_CLI = "stacpull.cli."
COMMANDS: dict[str, tuple[str | None, str]] = {
    "mirror": (f"{_CLI}mirror_command:mirror", "Mirror the selected items of SOURCE into DEST."),
    "plan": (f"{_CLI}inspect_command:plan", "Show what a mirror would do, without downloading."),
    "collections": (f"{_CLI}inspect_command:collections", "List the collections of SOURCE."),
    "classes": (f"{_CLI}inspect_command:classes", "List the label classes of a collection."),
    "headers": (None, "Read only the headers of COG and TIFF assets, as a table."),
    "resume": (f"{_CLI}mirror_command:resume", "Resume the unfinished run in DEST."),
    "retry": (f"{_CLI}mirror_command:retry", "Retry the failed assets of DEST."),
    "status": (f"{_CLI}inspect_command:status", "Show the state of DEST; safe while a mirror is running."),
    "verify": (f"{_CLI}verify_command:verify", "Check the files in DEST; --repair replaces damaged ones."),
    "failures": (f"{_CLI}inspect_command:failures", "List every asset of DEST that failed, and why."),
    "export": (None, "Turn DEST into an index, training shards, a TorchGeo tree or a table of labels."),
    "report": (None, "Write an HTML page about DEST: contents, sizes, runs, failures."),
    "trace": (None, "Trace the scenes behind the pixels of an area, day by day."),
    "credentials": (None, "List the credential profiles, or check one."),
    "serve": (None, "Run a replica of a service on this machine, for trials and tests."),
    "demo": (None, "Try stacpull on a replica of a real service, without an account."),
    "completion": (f"{_CLI}main:completion", "Print the completion script for a shell."),
}
"""Location and summary, in the order of `--help`. Entry points have the locations of the others."""
