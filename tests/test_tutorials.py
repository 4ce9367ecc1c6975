"Lessons run in a folder of their own without gold data, and the answers that they fold away are right."
import ast
import json
import re
from pathlib import Path

import matplotlib
import pytest
from synthlab.exercise import Exercise

LESSONS = sorted((Path(__file__).parents[1]/'nbs'/'tutorials').glob('[0-9][0-9]_*.ipynb'))
ANSWER = re.compile(r'<details><summary>Answer</summary>.*?```python\n(.*?)```', re.S)


def sources(path, kind):
    "The cells of a kind, as text."
    return [''.join(cell['source']) for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == kind]


def said(code, names):
    "Run a cell, and return the value of its last line."
    *lines, last = ast.parse(code).body
    exec(compile(ast.Module(lines, []), 'answer', 'exec'), names)
    return eval(compile(ast.Expression(last.value), 'answer', 'eval'), names)


@pytest.mark.parametrize('path', LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_alone_and_its_answers_are_right(path, tmp_path, monkeypatch):
    matplotlib.use('agg')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('SYNTHLAB_GOLD', raising=False)
    monkeypatch.setenv('SYNTHLAB_LESSON_ROWS', '8')
    names = {'__name__': 'lesson'}
    for code in sources(path, 'code'): exec(re.sub(r'(?m)^%.*$', '', code), names)
    exercises = {name for name, value in names.items() if isinstance(value, Exercise)}
    answers = [found for text in sources(path, 'markdown') for found in ANSWER.findall(text)]
    assert 3 <= len(exercises) <= 6 and len(answers) == len(exercises)
    assert {match for answer in answers for match in re.findall(r'(?m)^(ex\d)\(', answer)} == exercises
    for answer in answers: assert said(answer, names) == 'Right.', answer


@pytest.mark.parametrize('path', LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(path):
    text = '\n'.join(sources(path, 'markdown'))
    assert re.search(r'> Lesson \d+, about \d+ minutes\.', text) and '**What you will be able to do.**' in text and '## Where to go next' in text
    assert text.count('### Exercise') == len(ANSWER.findall(text))
