"""HTTP/1.1 on connections that need no task or future for a small plain GET; a task may take over a response."""
