"""Links of a built site: every page and every place in one exists, and no page loads anything from a network."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(given.get("href", ""))
        elif "src" in given:
            self.loads.append(given["src"])


def faults(root: Path) -> list[str]:
    """A line for every broken link, and for everything that comes from a network."""
    pages = {path.resolve(): Page(path) for path in sorted(root.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            address = urlsplit(link)
            if address.scheme in ("data", "mailto", "javascript"):
                continue
            if address.scheme or address.netloc:
                found += [f"{path.name} loads {link}"] if link in page.loads else []
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if not target.exists():
                found.append(f"{path.name} links to {link}, which is not there")
            elif target in pages and unquote(address.fragment) not in pages[target].places:
                found.append(f"{path.name} links to {link}, and there is no such place")
    return found


if __name__ == "__main__":
    told = faults(Path(sys.argv[1]))
    sys.exit("\n".join(told) if told else 0)
