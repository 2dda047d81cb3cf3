"""Where items come from: API pages, static catalogs, files and links."""
