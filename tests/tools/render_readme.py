"""Render nbs/index.ipynb to README.md: `python tests/tools/render_readme.py`."""
import posixpath
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
README = ROOT/'README.md'
HIDDEN = re.compile(r'(?:#\|.*\n)*#\|\s*(?:hide|default_exp)\b')
LINK = re.compile(r'\]\(([^)#\s]+)')


def from_root(match):
    "A link to a file beside the notebook, as seen from the README."
    path = posixpath.normpath(f'nbs/{match[1]}')
    return f']({path}' if (ROOT/path).exists() else match[0]


def for_readers(nb):
    "The notebook without hidden cells and directives, with links that hold in the README."
    nb.cells = [cell for cell in nb.cells if not (cell.cell_type == 'code' and HIDDEN.match(cell.source))]
    for cell in nb.cells:
        if cell.cell_type == 'code': cell.source = re.sub(r'(?m)^#\|.*\n?', '', cell.source)
        if cell.cell_type == 'markdown': cell.source = LINK.sub(from_root, cell.source)
    nb.metadata['language_info'] = {'name': 'python'}
    return nb


def render():
    "The text of README.md."
    config = Config()
    pictures = ['image/svg+xml', 'image/png', 'image/jpeg']
    config.MarkdownExporter.display_data_priority = ['text/markdown', *pictures, 'text/plain']
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    text, resources = MarkdownExporter(config=config).from_notebook_node(for_readers(nb))
    if resources['outputs']: raise ValueError('a cell of index.ipynb shows a picture: save it in nbs/images and link to it')
    text = re.sub(r'\n{4,}', '\n\n', text.strip())
    return f'<!-- Rendered from nbs/index.ipynb by `make readme`: edit it there. -->\n\n{text}\n'


if __name__ == '__main__': README.write_text(render(), encoding='utf-8')
