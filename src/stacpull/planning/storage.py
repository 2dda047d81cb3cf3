"""Where an asset is stored, as the storage extension says it: the region of its bucket, and who pays. Pure.

Version 1 writes `storage:region` and `storage:requester_pays` on the asset, or on the item for all of them.
Version 2 names schemes once (`storage:schemes`) and has each asset refer to some of them (`storage:refs`).
Source: https://github.com/stac-extensions/storage, v1.0.0 and v2.0.0.

What it says is a hint: a region is where to ask first, and nobody's money is spent because an item says so
(`--request-payer` agrees to that).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from stacpull.models import Json

__all__ = ["Storage", "storage_at", "storage_of"]


class Storage(NamedTuple):
    """What is said of an asset's storage."""

    region: str | None = None
    """The region of its bucket at Amazon; None if nothing, or something else, is said."""
    requester_pays: bool = False
    """True if whoever asks must pay, wherever the asset is taken from."""


_NOTHING = Storage()


def storage_at(item: Json, asset: Json, href: str) -> Storage:
    """Return what an item says of the storage of one of its assets at `href`, its own or an alternate one."""
    alternates = asset.get("alternate")
    entries = alternates.values() if isinstance(alternates, dict) else ()
    named = (one for one in entries if isinstance(one, dict) and one.get("href") == href)
    return storage_of(item, asset if asset.get("href") == href else next(named, asset))


def storage_of(item: Json, asset: Json) -> Storage:
    """Return what an item says of the storage of one of its assets (or of an alternate of it)."""
    properties = item.get("properties")
    shared: Json = properties if isinstance(properties, dict) else {}
    refs = asset.get("storage:refs")
    if isinstance(refs, list) and refs:
        return _of_schemes(shared.get("storage:schemes"), refs)
    region, pays, platform = (
        asset.get(f"storage:{name}", shared.get(f"storage:{name}"))
        for name in ("region", "requester_pays", "platform")
    )
    if region is None and pays is None:
        return _NOTHING
    amazon = not isinstance(platform, str) or platform.upper() == "AWS"
    return Storage(region if amazon and isinstance(region, str) and region else None, pays is True)


def _of_schemes(schemes: Any, refs: list[Any]) -> Storage:
    """Return what all the schemes that an asset refers to have in common: it may be had by any of them."""
    if not isinstance(schemes, dict):
        return _NOTHING
    named = [schemes.get(ref) for ref in refs if isinstance(ref, str)]
    known = [scheme for scheme in named if isinstance(scheme, dict)]
    if not known:
        return _NOTHING
    regions = {scheme.get("region") if scheme.get("type") == "aws-s3" else None for scheme in known}
    (region,) = regions if len(regions) == 1 else (None,)
    pays = all(scheme.get("requester_pays") is True for scheme in known)
    return Storage(region if isinstance(region, str) and region else None, pays)
