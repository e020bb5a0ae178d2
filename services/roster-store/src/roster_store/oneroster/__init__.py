"""The roster as a standard OneRoster provider, 1.1 and 1.2 (F1).

`api` takes requests, `listings` says what one asks for, `pages` reads it, `shapes_*` write it. `filters` knows the
grammar, `conditions` turns it into SQL, `marks` remembers where pages begin.
"""

from roster_store.oneroster.api import router
from roster_store.oneroster.marks import Surveys

__all__ = ["Surveys", "router"]
