"""HTTP/1.1 on connections that need no task, future or await for a small plain GET (`engine.fast_path`)."""
