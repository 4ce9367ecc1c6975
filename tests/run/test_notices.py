"What a user must know of a run is said in the terminal, by status, in the card and in the report."
import warnings

import pytest
from fault_server import FaultServer
from scripted_teacher import ScriptedTeacher
from synthlab.cli.main import main
from synthlab.cli.runs import show_produced
from synthlab.correct.choices import Correction
from synthlab.measure.quality import evaluate
from synthlab.run.produce import make_config, produce
from synthlab.run.recipe import Recipe
from synthlab.store.runs import read_status
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import FutileError
from synthlab.teacher.requests import Answer


def refusing(share, number=4000):
    "A teacher whose server refuses this share of the corrections."
    def script(asked):
        if asked.step == 'correct' and asked.number % 10 < 10*share:
            return Answer(error=f'400: the context is {number} tokens, and {number + asked.number} were sent')
    return ScriptedTeacher(script)


def written(teacher, out, n=30, fork=None, **options):
    request = make_config(Recipe.targen(contexts=2, **options), load_task('sst2'), teacher, n)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return produce(request, out, teacher, fork=fork, watch=lambda groups, *_: groups), request


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


# ---- stops


def test_no_verdict_at_all_stops_and_the_same_command_goes_on(tmp_path):
    with pytest.raises(FutileError, match=r'no verdict on any of 30 rows \(failed: 400'): written(refusing(1), tmp_path/'run')
    status = read_status(tmp_path/'run')
    assert not status['finished'] and 'no verdict' in status['trouble']
    calls = status['calls']['calls']
    cured = ScriptedTeacher()
    done, _ = written(cured, tmp_path/'run')
    assert sum(done.counts['accepted'].values()) == 30 and not done.notices and not done.shortfall
    # contexts, seeds and rows are there already: only the corrections are asked
    assert calls and {asked.step for asked in cured.asked} == {'correct'} and len(cured.asked) == 30


def test_the_command_exits_with_an_error_where_no_row_was_corrected(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('OPENAI_API_KEY', 'none')
    with FaultServer(script=lambda question, n: '400' if 'has now' in question else 'ok', answer=ScriptedTeacher().serve) as server:
        asked = ['generate', 'ag_news', '--recipe', 'targen', '--n', '24', '--contexts', '2', '--base-url', server.url, '--teacher', 'owl', '--out', f'{tmp_path}/run']
        assert main(asked) == 2 and 'no verdict on any of' in capsys.readouterr().err


def test_no_verdict_stops_after_the_first_block(tmp_path):
    teacher = refusing(1)
    with pytest.raises(FutileError, match='no verdict on any of 128 rows'): written(teacher, tmp_path/'run', 1000)
    assert sum(asked.step == 'correct' for asked in teacher.asked) == 128


def test_an_absurd_flip_rate_stops_early(tmp_path):
    def other(asked): return next(answer for answer in asked.answers if answer != asked.given)
    teacher = ScriptedTeacher(verdict=other)
    with pytest.raises(FutileError, match='gives 128 of 128 rows another label'): written(teacher, tmp_path/'run', 1000)
    status = read_status(tmp_path/'run')
    assert 'another label' in status['trouble'] and status['candidates'] == 128 and status['notices']
    # nothing finished is lost, and a cure in another folder asks for no text again
    mender = ScriptedTeacher(verdict=other)
    done, _ = written(mender, tmp_path/'marked', 60, fork=tmp_path/'run', correct=Correction(policy='flag'))
    assert sum(done.counts['accepted'].values()) == 60 and not mender.asked and 'flips' in done.notices[0]


@pytest.mark.parametrize('fault', [Answer(error='400: no such thing'), Answer(refusal='I cannot help with that.')], ids=['failed', 'refused'])
@pytest.mark.parametrize('n', [1500, pytest.param(5000, marks=pytest.mark.long)])
def test_hundreds_of_calls_with_one_fault_stop(tmp_path, fault, n):
    bad = ScriptedTeacher(lambda asked: fault)
    request = make_config(Recipe.fewgen(shots=1), load_task('sst2'), bad, n)
    with pytest.raises(FutileError, match='in the same way'): produce(request, tmp_path/'run', bad, watch=lambda groups, *_: groups)
    assert 300 <= len(bad.asked) <= 600
    good = ScriptedTeacher()
    if fault.error:
        again = produce(request, tmp_path/'run', good, watch=lambda groups, *_: groups)
        assert sum(again.counts['accepted'].values()) == n and not again.counts['failed']


def test_hundreds_of_examples_without_attributes_stop(tmp_path):
    bad = ScriptedTeacher(lambda asked: Answer(error=f'400: a prompt of {3000 + asked.number} tokens is too long'))
    gold = tmp_path/'gold.csv'
    gold.write_text('text,label\n' + ''.join(f"Film number {n} was a joy.,{('negative', 'positive')[n % 2]}\n" for n in range(2000)))
    request = make_config(Recipe.attrprompt(source='extracted', select='random'), load_task('sst2'), bad, 4000, gold=str(gold))
    with pytest.raises(FutileError, match='a prompt of 3000 to 3299 tokens'): produce(request, tmp_path/'run', bad, watch=lambda groups, *_: groups)
    assert len(bad.asked) <= 600
