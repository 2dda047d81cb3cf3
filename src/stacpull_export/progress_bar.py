"""A progress bar for notebooks and scripts, based on the events of a run."""

from tqdm.auto import tqdm

from stacpull.events import Checked, Event, Listener, Notice, Progress, RunEnded, Stage


def progress_bar() -> Listener:
    """Return a listener that shows a progress bar: a widget in Jupyter, a line of text in a terminal.

        await stacpull.mirror(source, "rice", on_event=stacpull.progress_bar())

    Returns:
        A function for the events of one run, check or export. It also prints warnings.
    """
    bar = tqdm(iterable=None, unit=" files", desc="starting")

    def show(event: Event) -> None:
        if isinstance(event, Progress):
            bar.unit = f" {event.noun}s"
            bar.total = event.assets_planned
            bar.n = event.assets_done + event.assets_failed
            bar.desc = "fetching" if event.walk_ended else "listing and fetching"
            bar.set_postfix_str(
                f"{event.items_matched} items, {event.bytes_done / 1e6:,.1f} MB, {event.assets_failed} failed"
            )
        elif isinstance(event, Checked):
            bar.total = event.files_expected
            bar.n = event.files
            bar.set_description_str("checking")
        elif isinstance(event, Stage):
            if event.total is not None and not bar.postfix:  # an export; a run has its files
                bar.total = event.total
                bar.n = event.done
            bar.set_description_str(event.name)
        elif isinstance(event, Notice) and event.level == "warning":
            bar.write(event.text)
        elif isinstance(event, RunEnded):
            bar.set_description_str(event.state)
            bar.close()

    return show
