"""Sources of items: APIs, static catalogs and files."""
