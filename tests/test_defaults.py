"Every default of the library has a reason, every reason a default, and every figure stands where it is said to stand."
import ast
import contextlib
import importlib
import os
import re
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest
import synthlab
from execnb.nbio import read_nb

NBS = Path(__file__).parents[1]/'nbs'
BOOK = tomllib.loads((NBS/'defaults.toml').read_text(encoding='utf-8'))
AREAS = [area for area in BOOK if area not in ('sources', 'areas')]
ENTRIES = [entry for area in AREAS for entry in BOOK[area]]
KEYS = {'name', 'value', 'at', 'any', 'from', 'why', 'see', 'figures', 'doubt'}


@pytest.fixture(scope='module')
def page():
    "Names that the page defines when it is run as it stands, but for its own look at what is wrong."
    cells = [cell.source for cell in read_nb(NBS/'defaults.ipynb').cells if cell.cell_type == 'code']
    names, here = {}, os.getcwd()
    try:
        os.chdir(NBS)
        for source in cells: exec(re.sub(r'(?m)^assert not wrong.*$', '', source), names)
    finally: os.chdir(here)
    return names


@lru_cache
def text_of(path):
    "All that a notebook says: its cells, and what they show, in one line."
    parts = []
    for cell in read_nb(path).cells:
        parts.append(cell.source)
        for output in cell.get('outputs', ()):
            parts += [re.sub(r'<[^>]*>', ' ', ''.join(part)) for kind, part in output.get('data', {}).items() if kind.startswith('text/')]
            parts.append(''.join(output.get('text', '')))
    return ' '.join(' '.join(parts).split())


def stands(figure, text):
    "Whether a figure stands in a text, whole; a number may have more digits there, and is rounded."
    if re.fullmatch(r'\d+\.\d+', figure):
        digits = len(figure.split('.')[1])
        return any(f'{float(number):.{digits}f}' == figure for number in re.findall(r'(?<![\d.])\d+\.\d+', text) if len(number.split('.')[1]) >= digits)
    return bool(re.search(rf'(?<![\d.]){re.escape(figure)}(?!\d|\.\d)', text))


def test_every_default_has_one_reason_and_every_reason_a_default(page):
    assert not page['wrong'], 'write or mend entries of nbs/defaults.toml, then run the notebook:\n' + '\n'.join(page['wrong'])


def test_the_committed_page_shows_what_the_code_and_the_reasons_say(page):
    outputs = [output.get('data', {}) for cell in read_nb(NBS/'defaults.ipynb').cells for output in cell.get('outputs', ())]
    shown = [''.join(data['text/markdown']) for data in outputs if 'text/markdown' in data]
    stale = [area for area in AREAS if page['show'](area).data not in shown]
    assert not stale, f'run `make notebooks NB=nbs/defaults.ipynb`; out of step: {stale}'


def test_every_area_has_a_heading_and_a_table():
    text = '\n'.join(cell.source for cell in read_nb(NBS/'defaults.ipynb').cells)
    assert list(BOOK['areas']) == AREAS
    missing = [area for area in AREAS if f"## {BOOK['areas'][area]}\n" not in text or f"show('{area}')" not in text]
    assert not missing


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['name'])
def test_reason_is_whole(entry):
    assert not entry.keys() - KEYS and entry['why'].endswith('.') and set(entry['from']) <= BOOK['sources'].keys() and entry['from']
    rules = entry.get('at', [entry['name']])
    assert entry.get('any') or 'value' in entry or all(' = ' in rule for rule in rules), 'a reason is about a value: write it down, or any = true'
    assert ('measured' in entry['from']) <= {'see', 'figures'}.issubset(entry.keys()), 'what was measured has a notebook and figures'
    assert 'see' not in entry or (NBS/entry['see']).exists()


@pytest.mark.parametrize('entry', [entry for entry in ENTRIES if 'figures' in entry], ids=lambda entry: entry['name'])
def test_figures_stand_in_the_notebook(entry):
    text = text_of(NBS/entry['see'])
    missing = [figure for figure in entry['figures'] if not stands(figure, text)]
    assert not missing, f"{entry['see']} does not say {missing}"


def written(node, path):
    "Parameters with a default below a function or a class, by path, as they stand in the source."
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not (member.name.startswith('_') and member.name != '__init__'):
                yield from written(member, path if member.name == '__init__' else f'{path}.{member.name}')
        return
    given = node.args.posonlyargs + node.args.args
    names = [arg.arg for arg in given[len(given) - len(node.args.defaults):]] + [arg.arg for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults) if default]
    yield from (f'{path}.{name}' for name in names)


def test_collection_misses_no_parameter_of_the_source(page):
    missed = []
    package = Path(synthlab.__file__).parent
    for file in sorted(package.rglob('[a-z]*.py')):
        dotted = '.'.join(file.relative_to(package).with_suffix('').parts)
        public = getattr(importlib.import_module(f'synthlab.{dotted}'), '__all__', ())
        for node in ast.parse(file.read_text(encoding='utf-8')).body:
            if getattr(node, 'name', None) in public: missed += [place for place in written(node, f'{dotted}.{node.name}') if place not in page['places']]
    assert not missed


def test_faults_are_found(page):
    entries = [{'name': 'delta', 'value': '0.9'}, {'name': 'any', 'value': '1', 'at': ['m.*']}, {'name': 'one', 'value': '1', 'at': ['m.f.one']}]
    assert page['faults']({'m.f.delta': .9, 'm.f.one': 1, 'm.g.two': 1}, entries) == []
    assert page['faults']({'m.f.delta': .8, 'm.f.one': 1, 'm.g.two': 1}, entries) == ['no reason for m.f.delta = 0.8', 'no place for delta: *.delta = 0.9']
    both = page['faults']({'m.f.delta': .9, 'm.f.one': 1, 'm.g.two': 1}, [*entries, {'name': 'two', 'value': '1', 'at': ['*wo']}])
    assert both == ['two reasons for m.g.two: any, two']


@contextlib.contextmanager
def added(module, name, value):
    "A public name more in a module, for a while."
    value.__module__ = module.__name__
    setattr(module, name, value)
    module.__all__.append(name)
    try: yield
    finally:
        module.__all__.remove(name)
        delattr(module, name)


def test_a_new_default_without_a_reason_is_found(page):
    def tempered(logits, coolness=.3): return logits
    module = importlib.import_module('synthlab.decode.contrast')
    with added(module, 'tempered', tempered): places = page['of_module'](module)
    assert set(page['faults'](page['places'] | places, page['entries'])) - set(page['wrong']) == {'no reason for decode.contrast.tempered.coolness = 0.3'}


def test_figures_are_found_whole_and_rounded():
    assert stands('0.87', 'with probability 0.87, one') and stands('0.87', 'or 0.8712') and stands('60 s', 'took 60 s') and stands('0.8', 'is 0.8. Then')
    assert not stands('0.87', '0.875') and not stands('6.4', '16.4') and not stands('8 of', '18 of') and not stands('16', '16.5') and not stands('0.80', '0.8')
