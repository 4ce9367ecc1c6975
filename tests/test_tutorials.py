"Lessons run in a folder of their own without gold data, and the answers that they fold away are right."
import json
import re
from pathlib import Path

import matplotlib.pyplot
import numpy
import pandas
import pytest
from execnb.nbio import read_nb
from run_notebooks import FOLDED, checks_of_exercises
from synthlab.exercise import check_answers, folded_answers

LESSONS = sorted((Path(__file__).parents[1]/'nbs'/'tutorials').glob('[0-9][0-9]_*.ipynb'))


def sources(path, kind):
    "The cells of a kind, as text."
    return [''.join(cell['source']) for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == kind]


@pytest.mark.parametrize('path', LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_alone_and_its_answers_are_right(path, tmp_path, monkeypatch):
    matplotlib.use('agg')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('SYNTHLAB_GOLD', raising=False)
    monkeypatch.setenv('SYNTHLAB_LESSON_ROWS', '8')
    names = {'__name__': 'lesson'}
    for code in sources(path, 'code'): exec(re.sub(r'(?m)^%.*$', '', code), names)
    assert 3 <= check_answers(path, names) <= 6
    matplotlib.pyplot.close('all')


@pytest.mark.parametrize('path', LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(path):
    text = '\n'.join(sources(path, 'markdown'))
    assert re.search(r'> Lesson \d+, about \d+ minutes\.', text) and '**What you will be able to do.**' in text and '## Where to go next' in text
    assert text.count('### Exercise') == len(folded_answers(path))


@pytest.mark.parametrize(('page', 'row'), [('07_contents', r'\| \d+ \| \[[^]]*\]\(\S*?(?P<lesson>\d\d_\w+)\.ipynb\) \| (?P<minutes>\d+) \|'),
                                           ('10_paths', r'\| (?P<minutes>\d+) \| \[Lesson[^]]*\]\(\S*?(?P<lesson>\d\d_\w+)\.ipynb\) \|')])
def test_the_guide_gives_the_minutes_that_a_lesson_gives(page, row):
    minutes = {path.stem: re.search(r'> Lesson \d+, about (\d+) minutes', '\n'.join(sources(path, 'markdown')))[1] for path in LESSONS}
    rows = list(re.finditer(row, '\n'.join(sources(LESSONS[0].parents[1]/'guide'/f'{page}.ipynb', 'markdown'))))
    assert rows and {found['lesson']: found['minutes'] for found in rows} == {found['lesson']: minutes[found['lesson']] for found in rows}


@pytest.mark.parametrize('path', sorted(path for path in (LESSONS[0].parents[1]).rglob('*.ipynb')
                                        if path.parent.name != 'tutorials' and folded_answers(path)), ids=lambda path: path.stem)
def test_a_notebook_with_exercises_runs_its_answers(path):
    assert sources(path, 'code')[-1] == f"#| hide\ncheck_answers('{path.name}', globals());"


@pytest.mark.parametrize('path', sorted(path for path in LESSONS[0].parents[1].rglob('*.ipynb') if folded_answers(path)), ids=lambda path: path.stem)
def test_the_checks_of_exercises_are_folded(path):
    checks = checks_of_exercises(read_nb(path))
    assert checks and all(FOLDED.items() <= cell.metadata.items() for cell in checks), 'run tests/tools/run_notebooks.py, which folds them'


def held(lesson, name):
    "A table that a lesson holds."
    names, path = {'pd': pandas}, next(path for path in LESSONS if path.stem.startswith(lesson))
    exec(next(code for code in sources(path, 'code') if f'{name} = pd.DataFrame(' in code), names)
    return names[name]


def test_numbers_that_lessons_hold_are_those_of_the_study():
    found = json.loads((LESSONS[0].parents[1]/'studies'/'selection.json').read_text(encoding='utf-8'))
    def of_study(recipe, read): return [[read(cell) for cell in found['tasks'][task][recipe]] for task in ('ag_news', 'sst2', 'humor', 'amazon_category')]
    for name, column in held('04', 'student').items():
        assert column.to_list() == pytest.approx(sum(of_study(f'shown, {name}', lambda cell: 100*cell['student']['equal'][0]), []), abs=.051)
    records, shown = (numpy.array(of_study(recipe, lambda cell: found['texts']*cell['fidelity']['equal'])) for recipe in ('attributes, random', 'shown, random'))
    assert (held('05', 'of_160').to_numpy() == (records - shown).round(6)).all()
