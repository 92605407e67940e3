"""Pages by number, as the npm client asks for queues and schedules."""

from __future__ import annotations

from stepwell.errors import ApiError
from stepwell.protocol.fleet import PageNumbers, PageQuery

LARGEST_PAGE = 100


def rows_before(query: PageQuery) -> int:
    """How many rows the earlier pages have. Raises ApiError for a page that cannot be."""
    if query.page < 1 or not 1 <= query.per_page <= LARGEST_PAGE:
        raise ApiError(f"expected page from 1 and perPage from 1 to {LARGEST_PAGE}", code="invalid-request")
    return (query.page - 1) * query.per_page


def page_numbers(query: PageQuery, count: int) -> PageNumbers:
    """Where this page stands among the pages of `count` rows."""
    return PageNumbers(current_page=query.page, total_pages=max(1, -(-count // query.per_page)), count=count)
