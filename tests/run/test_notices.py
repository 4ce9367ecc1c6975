"What a user must know of a run is said in the terminal, by status, in the card and in the report."
import warnings
from pathlib import Path

import pytest
from scripted_teacher import ScriptedTeacher
from synthlab.cli.main import main
from synthlab.cli.runs import show_produced
from synthlab.correct.choices import Correction
from synthlab.measure.quality import evaluate
from synthlab.run.produce import make_config, produce
from synthlab.run.recipe import Recipe
from synthlab.store.runs import open_run
from synthlab.tasks.task import load_task
from synthlab.teacher.requests import Answer


def refusing(share, number=4000):
    "A teacher whose server refuses this share of the corrections."
    def script(asked):
        if asked.step == 'correct' and asked.number % 10 < 10*share:
            return Answer(error=f'400: the context is {number} tokens, and {number + asked.number} were sent')
    return ScriptedTeacher(script)


def written(teacher, out, n=30, **options):
    request = make_config(Recipe.targen(contexts=2, **options), load_task('sst2'), teacher, n)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return produce(request, out, teacher, watch=lambda groups, *_: groups), request


def test_rows_without_a_verdict_are_told_everywhere(tmp_path, capsys):
    done, request = written(refusing(.5), tmp_path/'run')
    show_produced(done, request)
    terminal = capsys.readouterr().out
    assert main(['status', f'{tmp_path}/run']) == 0
    status = capsys.readouterr().out
    evaluate(tmp_path/'run', student=None, progress=False, out=tmp_path/'run')
    card, report = ((tmp_path/'run'/name).read_text() for name in ('README.md', 'report.html'))
    [notice] = done.notices
    assert notice.startswith('self-correction gave no verdict on 15 of 30 rows')
    for place in (terminal, status, card, report): assert 'self-correction gave no verdict on 15 of 30 rows' in ' '.join(place.split()).replace('\\', '')
    # one reason, though each names another number
    assert notice.count('the context is 4000 tokens') == 1 and ': 15)' in notice


def test_flips_are_told_everywhere(tmp_path, capsys):
    judge = ScriptedTeacher(verdict=lambda asked: 'positive')
    done, request = written(judge, tmp_path/'run', correct=Correction(policy='flag'))
    show_produced(done, request)
    assert "flips 15 of the 15 rows of 'negative'" in capsys.readouterr().out and 'Look out' in (tmp_path/'run'/'README.md').read_text()
    assert main(['status', f'{tmp_path}/run']) == 0 and "flips 15 of the 15" in capsys.readouterr().out


def test_reasons_that_differ_in_a_number_are_one(tmp_path):
    teacher = ScriptedTeacher(lambda asked: Answer(error=f'a prompt of {973 + asked.number} tokens does not fit') if asked.step == 'write' and asked.number < 9 else None)
    done, _ = written(teacher, tmp_path/'run', correct='none')
    assert done.counts['failed'] == {'a prompt of 973 to 981 tokens does not fit': 9}
