"A bar in a notebook is a widget, or a plain line and nothing else where ipywidgets is missing."
import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
BLOCK = "import sys; sys.modules['ipywidgets'] = None"
BARS = """
import os; os.environ.pop('TQDM_DISABLE', None)
import synthlab
import datasets                                                # it imports tqdm.auto, as transformers does
from synthlab.util import progress_bar
for _ in progress_bar(range(2), what='outer', progress=True, keep=True):
    for _ in progress_bar(range(3), what='inner', progress=True): pass
"""
OFF = "os.environ['TQDM_DISABLE'] = '1'\nlist(progress_bar(range(3), progress=True));"


def outputs(*cells):
    "What each cell shows in a kernel of its own."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name='python3', resources={'metadata': {'path': str(ROOT)}}).execute()
    return [cell.outputs for cell in notebook.cells]


def test_without_ipywidgets_a_plain_line_and_no_warning():
    _, shown, off = outputs(BLOCK, BARS, OFF)
    text = ''.join(output.text for output in shown)
    assert {output.name for output in shown} == {'stdout'} and off == []                           # nothing in red, no warning, no widget
    lines = [line for line in text.replace('\n', '\r').split('\r') if line.strip()]
    assert lines and all(line.split(':')[0] in ('outer', 'inner') for line in lines) and '2/2' in lines[-1] and 'Warning' not in text
    assert '\x1b' not in text and text.count('\n') <= 1                                            # one line, which no bar leaves


def test_with_ipywidgets_the_widget():
    shown, off = outputs(BARS, OFF)
    assert off == [] and {kind for output in shown for kind in output.data} >= {'application/vnd.jupyter.widget-view+json'}
    assert all(output.output_type == 'display_data' for output in shown)


@pytest.mark.parametrize('path', sorted((ROOT/'synthlab').rglob('[a-z]*.py')), ids=lambda path: path.stem)
def test_all_bars_are_made_in_one_place(path):
    "Another import of tqdm would bring the warning back, and bars that TQDM_DISABLE does not stop."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    named = [name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for name in [getattr(node, 'module', None) or '', *(alias.name for alias in node.names)]]
    assert path.relative_to(ROOT/'synthlab') == Path('util.py') or not any(name.split('.')[0] == 'tqdm' for name in named)
