"Every result of a study says which teacher it was measured with, and every page that shows it says so where that is not the packaged one."
import json
import re
import sys
from pathlib import Path

import pytest
from synthlab.decode.model import model_path

ROOT = Path(__file__).parents[1]
STUDIES = ROOT/'nbs'/'studies'
sys.path.append(str(STUDIES))
from protocol import check_stamp, weights_hash                             # noqa: E402

RESULTS = sorted(STUDIES.glob('*.json'))
PAGES = [ROOT/'README.md', ROOT/'nbs'/'index.ipynb', *sorted((ROOT/'nbs'/'guide').glob('*.ipynb'))]
PACKAGED = weights_hash(model_path('pocket'))


def text_of(path):
    "A page as text: of a notebook all sources."
    text = path.read_text(encoding='utf-8')
    return text if path.suffix == '.md' else '\n\n'.join(''.join(cell['source']) for cell in json.loads(text)['cells'])


def stamps(): return {path.stem: check_stamp(json.loads(path.read_text(encoding='utf-8')), path.name) for path in RESULTS}


def unsaid(stamp, text):
    "What the page of a result should say of its teacher and does not."
    teacher = stamp['teacher']
    if teacher is None: return ''
    if 'unknown' in teacher.values(): return '' if re.search(r'measured[^.]*unknown', text, re.I) else 'that the weights of its teacher are unknown'
    if teacher['weights'] == PACKAGED: return ''
    said = any('measured' in part.lower() and 'earlier `pocket`' in part and f"`{teacher['revision']}`" in part for part in text.split('\n\n'))
    return '' if said else f"'measured ... with an earlier `pocket` (revision `{teacher['revision']}`)'"


def tables_with_figures(section):
    "Whether the section has a table half of whose rows hold a decimal number, outside formulas and code."
    for table in re.findall(r'(?:^\|.*\n?)+', section, re.M):
        rows = [re.sub(r'\$[^$]*\$|`[^`]*`', '', row) for row in table.splitlines()[2:]]
        if rows and 2*sum(bool(re.search(r'\d\.\d', row)) for row in rows) >= len(rows): return True
    return False


def cited(text):
    "The studies that sections with figures in tables point to."
    sections = re.split(r'(?m)^#+ ', text)
    return {name for section in sections if tables_with_figures(section) for name in re.findall(r'studies/(\w+)\.(?:ipynb|py|json)', section)}


@pytest.mark.parametrize('path', RESULTS, ids=lambda path: path.stem)
def test_a_result_says_how_it_was_measured(path):
    stamp = check_stamp(json.loads(path.read_text(encoding='utf-8')), path.name)
    assert {'version', 'commit'} <= set(stamp['code']) and re.fullmatch(r'\d{4}-\d\d-\d\d|unknown', stamp['date'])
    if stamp['teacher']: assert {'name', 'revision', 'weights'} <= set(stamp['teacher'])


@pytest.mark.parametrize('page', sorted(STUDIES.glob('*.ipynb')), ids=lambda path: path.stem)
def test_the_page_of_a_study_says_so(page):
    text, known = text_of(page), stamps()
    read = {name for name in re.findall(r"['\"](\w+)\.json['\"]", text) if name in known}
    missing = {name: words for name in read if (words := unsaid(known[name], text))}
    assert not missing, f'{page.name} should say {missing}, or be measured again'
    if page.stem in known and known[page.stem]['teacher'] and known[page.stem]['teacher']['weights'] == PACKAGED:
        assert '*Measured on' not in text or 'earlier `pocket`' not in text, f'{page.name} says earlier, and its result is of the packaged teacher'


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_tables_elsewhere_say_so(page):
    text, known = text_of(page), stamps()
    missing = {name: words for name in cited(text) if name in known and (words := unsaid(known[name], text))}
    assert not missing, f'{page.name} shows figures and should say {missing}'


def test_the_tables_that_are_meant_are_found():
    assert {'comparison', 'bakeoff', 'alignment'} <= cited(text_of(ROOT/'README.md')) & cited(text_of(ROOT/'nbs'/'guide'/'06_results.ipynb'))
    table = '## A\n\n| a | b |\n|---|---|\n| x | {} |\n\n[all](studies/bakeoff.ipynb)\n'
    assert cited(table.format('0.5')) == {'bakeoff'} and not cited(table.format('$0.5$')) and not cited(table.format('five'))
    assert not cited(table.format('0.5').replace('\n[all]', '\n## B\n[all]'))


def test_a_silent_page_is_refused():
    old = {'teacher': {'name': 'pocket', 'revision': 'abf0637eec83', 'weights': '6c43d712cf96'}}
    assert 'abf0637eec83' in unsaid(old, 'Measured with `pocket`.') and 'abf0637eec83' in unsaid(old, 'Measured with an earlier `pocket` (revision `c0eeb5100cad`).')
    assert not unsaid(old, 'x\n\n*Measured on 22 November with an earlier `pocket` (revision `abf0637eec83`).*')
    assert not unsaid({'teacher': None}, '') and not unsaid({'teacher': {'name': 'pocket', 'revision': 'any', 'weights': PACKAGED}}, '')
    lost = {'teacher': {'name': 'pocket', 'revision': 'unknown', 'weights': 'unknown'}}
    assert 'unknown' in unsaid(lost, 'Measured.') and not unsaid(lost, 'Measured on 1 May; the weights are unknown.')
