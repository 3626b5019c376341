"""The page a run leaves: one HTML file that needs no network, and contact sheets of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustaug.report.contact import contact_sheet
    from robustaug.report.page import write

__all__ = ["contact_sheet", "write"]


def __getattr__(name: str) -> Any:
    # imported on first use: the contact sheet must not wait for the page's templates, nor --help for either
    if name == "contact_sheet":
        from robustaug.report.contact import contact_sheet

        return contact_sheet
    if name == "write":
        from robustaug.report.page import write

        return write
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
