"Check a built site: every link inside it leads somewhere, and nothing is loaded from elsewhere (`python docs/check.py _docs`)."
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself; an <a> is only followed by a reader.
LOADED = {('script', 'src'), ('img', 'src'), ('iframe', 'src'), ('source', 'src'), ('video', 'src'), ('audio', 'src'), ('link', 'href'), ('object', 'data')}


class Page(HTMLParser):
    "The anchors of a page, what it links to, and what it loads."
    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ('id', 'name') and value: self.anchors.add(value)
            if (tag, name) in LOADED: self.loads.append(value)
            if name == 'href' and tag == 'a': self.links.append(value)


def outside(address):
    "Whether an address leads off the site."
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ('', 'data')


def loaded_from_elsewhere(pages):
    "Scripts, styles, pictures and fonts that a browser would fetch from another machine."
    return [f'{path} loads {address}' for path, page in pages.items() for address in page.loads if outside(address)]


def dead_links(folder, pages):
    "Links to files and anchors that are not there."
    for path, page in pages.items():
        for address in [each for each in page.links + page.loads if each and not outside(each) and not each.startswith('data:')]:
            parts = urlsplit(address)
            target = (path.parent/unquote(parts.path)).resolve() if parts.path else path
            if not target.exists(): yield f'{path.relative_to(folder)} links to {address}, which is not there'
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f'{path.relative_to(folder)} links to {address}, an anchor which is not there'


def remote_styles(folder):
    "Style sheets that name another machine."
    styles = {path: path.read_text(encoding='utf-8') for path in folder.rglob('*.css')}
    return [f'{path} loads from another machine' for path, text in styles.items() if 'url(http' in text or 'url("http' in text or '@import' in text]


def faults(folder):
    "Everything that is wrong with a site, as sentences."
    pages = {path: Page(path) for path in folder.rglob('*.html')}
    if not pages: raise SystemExit(f'no page in {folder}: run `make docs`')
    return [*loaded_from_elsewhere(pages), *dead_links(folder, pages), *remote_styles(folder)]


if __name__ == '__main__':
    found = faults(Path(sys.argv[1]).resolve())
    if found: raise SystemExit('\n'.join(found))
