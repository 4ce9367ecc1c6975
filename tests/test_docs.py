"The site shows what readers should see, with links and formulas that need no network; the package index gets full addresses."
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/'docs'))

import check  # noqa: E402
import stage  # noqa: E402


def code(source): return {'cell_type': 'code', 'id': 'c', 'metadata': {}, 'source': source, 'outputs': [], 'execution_count': None}
def words(source): return {'cell_type': 'markdown', 'id': 'm', 'metadata': {}, 'source': source}


@pytest.fixture
def notebook():
    "A notebook of a module, with a cell of every kind."
    cells = [words('# decode.made\n\n> A line about it'), code('#| default_exp decode.made'), code('#| hide\nsecret = 1'), code('#| export\n#| slow\nx = 1\n#| not a directive\n'),
             code('# | echo: false\ny = 2'), code('import math'), words('See [model](04_model.ipynb), [scores](../measure/06_labels.ipynb#Presets) and [file](../guide/library_desk.toml).')]
    return {'cells': cells, 'metadata': {'kernelspec': {}}, 'nbformat': 4, 'nbformat_minor': 5}


def test_hidden_cells_and_directives_vanish(notebook):
    page = stage.for_site(notebook, 'nbs/decode/90_made.ipynb', 'decode/90_made.ipynb')
    shown = [cell['source'] for cell in page['cells'] if cell['cell_type'] == 'code']
    assert shown == ['x = 1\n#| not a directive', 'y = 2', 'import math']
    assert [cell['metadata'] for cell in page['cells'] if cell['cell_type'] == 'code'] == [{}, {'tags': ['remove-input']}, {}]


def test_a_page_says_where_it_comes_from(notebook):
    text = stage.for_site(notebook, 'nbs/decode/90_made.ipynb', 'decode/90_made.ipynb')['cells'][1]['source']
    assert '[synthlab.decode.made](../api/decode.made.rst)' in text and '/blob/main/nbs/decode/90_made.ipynb)' in text
    assert 'Module' not in stage.origin({'cells': notebook['cells'][:1]}, 'nbs/guide/a.ipynb', 'guide/a.ipynb')['source']


def test_links_lead_to_pages_and_else_to_the_repository():
    home = f"{stage.settings()['git_url']}/blob/main"
    text = '[a](04_model.ipynb) [b](../measure/06_labels.ipynb#Presets) [c](../guide/library_desk.toml) [d](../../CHANGELOG.md) [e](../index.ipynb) [f](#Here) [g](https://a.b/c) ![h](../images/demo.png)'
    assert stage.relink(text, 'nbs/decode/06_loop.ipynb', 'decode/06_loop.ipynb') == (
        f'[a](04_model.ipynb) [b](../measure/06_labels.ipynb#Presets) [c]({home}/nbs/guide/library_desk.toml) [d](../changelog.md) [e](../overview.ipynb) '
        '[f](#Here) [g](https://a.b/c) ![h](../images/demo.png)')
    assert stage.relink('[a](../decode/04_model.ipynb)', 'nbs/guide/07_contents.ipynb', 'papers.md') == '[a](decode/04_model.ipynb)'
    assert stage.relink('[gone](nothing.ipynb) and $[x](y)$', 'nbs/index.ipynb', 'overview.ipynb') == '[gone](nothing.ipynb) and $[x](y)$'        # Sphinx complains of the first


def test_folders_and_modules_have_pages(notebook):
    page = stage.folder_page('decode', {'90_made.ipynb': notebook})
    assert page.startswith('# Decode\n') and '| [decode.made](90_made.ipynb) | A line about it |' in page and '\n90_made\n' in page
    assert stage.folder_page('new', {}).startswith('# New\n')
    assert '.. automodule:: synthlab.decode.made' in stage.api_page('decode.made', 'decode/90_made.ipynb')
    assert stage.public_names('from .align.mmd import mmd2 as mmd2\n') == ['synthlab.align.mmd.mmd2']


def test_every_notebook_is_a_page(tmp_path):
    stage.write(tmp_path)
    notebooks = {path.relative_to(ROOT/'nbs').as_posix() for path in (ROOT/'nbs').rglob('[!.]*.ipynb') if '.ipynb_checkpoints' not in path.parts}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('*.ipynb')} == notebooks - {'index.ipynb'} | {'overview.ipynb'}
    headings = [stage.read(tmp_path/name)['cells'][0]['source'].split('\n')[0] for name in ('overview.ipynb', 'tutorials/01_first_dataset.ipynb')]
    assert headings == ['# Overview', '# Your first dataset']
    sources = [cell['source'] for path in tmp_path.rglob('*.ipynb') for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code']
    assert len(sources) > 2000 and not [source for source in sources if re.match(r'#\s*\|', source)]
    assert '| CorrSynth |' in (tmp_path/'papers.md').read_text(encoding='utf-8')
    listed = (tmp_path/'index.md').read_text(encoding='utf-8')
    assert all(f'\n{path.parent.name}/index\n' in listed for path in tmp_path.glob('*/index.*')), 'add the folder to docs/index.md'


def test_formulas_are_drawn_by_the_browser():
    pytest.importorskip('math_core', reason='formulas are translated by math-core: pip install -e ".[docs]"')
    from mathml import to_mathml
    drawn = to_mathml(r'\min_w \Bigl\lVert \tfrac1N \sum_j w_j\,\psi(s_j) \Bigr\rVert^2', display=True)
    assert drawn.startswith('<math display="block"') and '<mfrac' in drawn and '\\' not in drawn
    with pytest.raises(Exception, match='nosuch'): to_mathml(r'\nosuch{x}')


def test_outputs_fit_the_page():
    def told(text): return {'output_type': 'stream', 'name': 'stdout', 'text': text}
    def table(html): return {'output_type': 'execute_result', 'data': {'text/plain': 'a  b\n' * 5, 'text/html': html}}
    assert not stage.in_columns(told('one long line of words\n  and another\n'))
    assert not stage.in_columns(table('<table></table>'))
    assert stage.in_columns(told(['│ a │\n'])) and stage.in_columns(told('min    0.00\n50%    1.14\nmax    2.27\n'))
    page = stage.breakable(table([f'<th class="form_and_length">form_and_length</th><td>a_b, {"light" * 9}</td>']))
    assert page['data']['text/html'] == ('<th class="form_and_length">form_<wbr>and_<wbr>length</th>'
                                         f'<td>a_b, {"light" * 4}<wbr>{"light" * 4}<wbr>light</td>')
    assert stage.shown(code('print(x)') | {'outputs': [told('─')]})['metadata'] == {'tags': ['columns']}


def test_formulas_go_apart_and_keep_their_full_stop():
    pytest.importorskip('math_core', reason='formulas are translated by math-core: pip install -e ".[docs]"')
    from docutils import nodes
    from mathml import keep_whole, parts
    assert parts(r'a = b, \qquad c') == ['a = b, ', ' c']
    assert parts(r'\left( a \qquad b \right)') == [r'\left( a \qquad b \right)']
    line = nodes.paragraph('', '', nodes.Text('where (see '), nodes.math('', 'x'), nodes.Text('), '), nodes.math('', 'y'),
                           nodes.emphasis('', 'too'))
    keep_whole(None, line, 'page')
    assert [type(each).__name__ for each in line] == ['Text', 'inline', 'Text', 'math', 'emphasis']
    assert line[1].astext() == 'x),' and line[1]['classes'] == ['whole'] and line.astext() == 'where (see x), ytoo'


def test_a_site_is_checked_for_dead_links_and_foreign_files(tmp_path):
    (tmp_path/'a.html').write_text('<h1 id="top"></h1><a href="b.html#there">x</a><a href="https://x.y/z">far</a><img src="data:image/png;base64,AA">')
    (tmp_path/'b.html').write_text('<p id="there"></p><a href="a.html#top">y</a>')
    assert check.faults(tmp_path) == []
    (tmp_path/'b.html').write_text('<a href="gone.html">y</a><script src="https://x.y/a.js"></script><link href="//x.y/a.css">')
    (tmp_path/'c.css').write_text('@font-face { src: url(https://x.y/font.woff) }')
    found = '\n'.join(check.faults(tmp_path))
    assert len(found.splitlines()) == 5 and all(part in found for part in ('b.html#there, an anchor', 'gone.html', 'https://x.y/a.js', '//x.y/a.css', 'c.css'))


@pytest.fixture
def packaged(monkeypatch):
    "What setup.py gives to setuptools, and its functions."
    given = {}
    monkeypatch.setattr(setuptools, 'setup', given.update)
    return runpy.run_path(str(ROOT/'setup.py')), given


def test_the_package_index_gets_full_addresses(packaged):
    names, given = packaged
    home = 'https://h/r'
    assert names['absolute_links']('![p](a/b.png) [q](c.md#d) [r](https://x) [s](#t) [u](mailto:v)', home, 'main') == (
        '![p](https://h/r/raw/main/a/b.png) [q](https://h/r/blob/main/c.md#d) [r](https://x) [s](#t) [u](mailto:v)')
    text = given['long_description']
    targets = re.findall(r'\]\(([^)\s]+)', text)
    assert len(targets) > 30 and all(target.startswith('https://') for target in targets)
    files = [target.split('/main/', 1)[1].split('#')[0] for target in targets if re.search(r'/(blob|raw)/main/', target)]
    assert len(files) > 20 and all((ROOT/file).exists() for file in files)
    assert not re.search(r'(?<!\\)\$[^$\n]+\$', text), 'a package index shows no formulas'


def test_the_package_index_can_show_the_description(packaged):
    markdown = pytest.importorskip('readme_renderer.markdown', reason='shown as on a package index by readme_renderer: pip install -e ".[dev]"')
    page = markdown.render(packaged[1]['long_description'])
    assert page and page.count('<table>') >= 3 and page.count('<img') == 4 and 'href="nbs' not in page
