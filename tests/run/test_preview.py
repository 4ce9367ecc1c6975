"A preview shows what the run would do, asks nothing that the run would not ask, and is a part of the run if it goes on."
import json
import warnings

import pytest
from scripted_teacher import ScriptedTeacher
from synthlab import CausalTeacher, Recipe, Sampling, preview
from synthlab.cli.main import main
from synthlab.run.engine import ThreadEngine
from synthlab.run.preview import Range, preview_run
from synthlab.run.produce import check, make_config, produce
from synthlab.store.runs import open_run, read_rows
from synthlab.tasks.task import load_task

RECIPES = ['fewgen', 'cfg', 'corrsynth', 'synalign', 'simprompt', 'attrprompt', 'verbalized', 'targen', 'combined']
SHORT = Sampling(20, .95, .9)


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


def request_for(recipe, teacher, n=16, task='sst2', **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        sampling = {} if recipe.prompt.choice in ('targeted', 'verbalized') else {'sampling': SHORT}
        return check(make_config(recipe, load_task(task), teacher, n, **sampling | options), teacher)


def quietly(function, *given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return function(*given, **options)


def texts(out): return [(row['id'], row['label'], row['text'], row['status'], row['reason']) for row in read_rows(out, None)]


def calls(out):
    with open_run(out) as run: return set(run.calls)


def went_on(request, folder, rows=3):
    "A preview, the run that goes on from it, and the run without one."
    seen = quietly(preview_run, request, rows, folder/'run')
    first = calls(folder/'run')
    quietly(produce, request, folder/'run')
    quietly(produce, request, folder/'whole')
    assert texts(folder/'run') == texts(folder/'whole')
    assert first <= calls(folder/'whole') == calls(folder/'run') and len(first) < len(calls(folder/'whole'))
    kept = {row['id']: row['text'] for row in read_rows(folder/'run', None)}
    assert all(kept[row['id']] == row['text'] for row in seen.rows)
    return seen


@pytest.mark.long
@pytest.mark.parametrize('name', RECIPES)
def test_a_preview_of_pocket_is_the_beginning_of_the_run(tmp_path, pocket, name):
    recipe = Recipe.targen(contexts=4, retries=0) if name == 'targen' else getattr(Recipe, name)()
    seen = went_on(request_for(recipe, pocket), tmp_path)
    assert seen.rows and seen.used.calls and seen.whole.calls.low <= seen.whole.calls.value <= seen.whole.calls.high
    assert json.loads(json.dumps(seen.to_dict(), allow_nan=False))['prompts']


def test_a_preview_of_groups_is_the_beginning_of_the_run(tmp_path, pocket):
    seen = went_on(request_for(Recipe.corrsynth(shots=1), pocket, 8, sampling=Sampling(8, .95, .9)), tmp_path)
    assert len(seen.rows) >= 4 and seen.prompts[0].turns[0]['role'] == '' and seen.prompts[0].stage == 'rows'


SERVED = {'fewgen': Recipe.fewgen(), 'synalign': Recipe.synalign(), 'attrprompt': Recipe.attrprompt(), 'verbalized': Recipe.verbalized(), 'targen': Recipe.targen(contexts=12),
          'votes': Recipe.fewgen(correct='evidence'), 'recombined': Recipe.synalign(source='recombined'), 'kept rows': Recipe.fewgen(align='mmd', keep='rows', candidates=2.)}


FAULTS = ('truncated', 'prose', 'schema', 'empty', 'refusal', 'given up')


@pytest.mark.parametrize('name', SERVED)
def test_a_preview_of_a_server_is_the_beginning_of_the_run(tmp_path, name):
    teacher = ScriptedTeacher(faults=.3, order=1, kinds=FAULTS)
    seen = went_on(request_for(SERVED[name], teacher, 24), tmp_path)
    stages = [one.stage for one in seen.prompts]
    assert 'rows' in stages and ('attributes of examples' in stages) == (name in ('synalign', 'recombined'))
    assert ({'contexts', 'seeds', 'second look'} <= set(stages)) == (name == 'targen') and ('second look' in stages) == (name in ('targen', 'votes'))
    asked = [[dict(message) for message in one.request.messages] for one in teacher.asked]
    assert all(list(map(dict, one.turns)) in asked for one in seen.prompts)              # to the letter what was sent


def test_a_preview_asks_for_a_few_rows_only_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr('tempfile.tempdir', None)
    teacher = ScriptedTeacher()
    seen = preview('sst2', 5000, 'fewgen', teacher=teacher, rows=5)
    assert len(teacher.asked) == 5 == len(seen.rows) == len(seen.accepted) and seen.out is None and not list(tmp_path.iterdir())
    assert seen.whole.calls == (5000, 5000, pytest.approx(5000/.5655, rel=.01))
    again = Recipe.fewgen().preview('sst2', n=5000, teacher=ScriptedTeacher())
    assert again.to_dict()['rows'] == seen.to_dict()['rows']


def test_attributes_are_asked_of_the_first_examples_only():
    gold = [{'text': f'{label} film number {n}', 'label': label} for label in ('negative', 'positive') for n in range(300)]
    teacher = ScriptedTeacher()
    seen = quietly(preview, 'sst2', 2000, Recipe.synalign(select='random'), gold=gold, teacher=teacher, rows=4)
    assert teacher.calls(repairs=True)['text'] == 4 and len(teacher.asked) == 8          # not the attributes of 200 examples
    assert 2200 <= seen.whole.calls.value <= 2300


def test_one_in_three_texts_rejected_is_seen(tmp_path):
    teacher = ScriptedTeacher(script=lambda asked: '' if asked.number % 3 == 2 else None)
    seen = quietly(preview, 'sst2', 60, 'fewgen', teacher=teacher, rows=6)
    assert len(seen.accepted) == 6 and {row['reason'] for row in seen.others} == {'empty text'} or seen.others
    done = quietly(produce, request_for(Recipe.fewgen(), ScriptedTeacher(script=lambda asked: '' if asked.number % 3 == 2 else None), 60), tmp_path/'run')
    assert seen.whole.calls.low <= done.usage.calls <= seen.whole.calls.high


def test_nothing_accepted_is_no_division_by_zero():
    seen = quietly(preview, 'sst2', 40, 'fewgen', teacher=ScriptedTeacher(script=lambda asked: ''), rows=3)
    assert not seen.accepted and len(seen.rows) == 12 and seen.whole.calls.value == 160 and 'rejected' in repr(seen)


@pytest.mark.parametrize('limit', [1, 3])
def test_a_limit_holds_in_a_preview(tmp_path, limit):
    teacher = ScriptedTeacher()
    seen = quietly(preview, 'sst2', 40, 'fewgen', teacher=teacher, rows=5, max_calls=limit, out=tmp_path/'run')
    assert len(teacher.asked) == limit == len(seen.rows) and seen.stopped.startswith('max_calls')
    seen = quietly(preview, 'sst2', 40, 'fewgen', teacher=teacher, rows=5, max_calls=10, out=tmp_path/'run')
    assert len(teacher.asked) == len(seen.rows) == 5 and any('max_calls = 10 may end' in notice for notice in seen.notices)


def test_a_limit_before_the_first_row_leaves_everything_unknown():
    seen = quietly(preview, 'sst2', 40, Recipe.targen(), teacher=ScriptedTeacher(), rows=5, max_calls=1)
    assert not seen.rows and seen.whole.calls == Range(None, None, None) and 'unknown' in repr(seen) and json.dumps(seen.to_dict(), allow_nan=False)


def test_a_preview_asks_in_this_process_and_says_so(capsys):
    engine = ThreadEngine(2, make=ScriptedTeacher)
    seen = quietly(preview, 'sst2', 40, 'fewgen', teacher=(teacher := ScriptedTeacher()), rows=3, engine=engine)
    assert seen.accepted and teacher.asked and not engine.threads and any('the 2 actors begin with generate' in notice for notice in seen.notices)
    with pytest.raises(ValueError, match='object of your own'): preview('sst2', 40, 'fewgen', teacher=ScriptedTeacher(), rows=3, engine=ThreadEngine(2))
    assert main(['preview', 'sst2', '--actors', '2']) == 2 and 'there is no --ray' in ' '.join(capsys.readouterr().err.split())


def test_texts_of_a_teacher_are_data():
    teacher = ScriptedTeacher(script=lambda asked: f'<script>alert({asked.number})</script> a film {asked.number}')
    seen = quietly(preview, 'sst2', 40, 'fewgen', teacher=teacher, rows=2)
    assert '<script>' in repr(seen) and '<script>' not in seen._repr_html_() and '&lt;script&gt;' in seen._repr_html_()


def test_a_finished_run_is_looked_at_and_left_alone(tmp_path):
    request = request_for(Recipe.fewgen(), ScriptedTeacher(), 8)
    quietly(produce, request, tmp_path/'run')
    before = {path.name: path.read_bytes() for path in (tmp_path/'run').iterdir() if path.suffix != '.db'}
    seen = quietly(preview_run, request, 4, tmp_path/'run')
    assert len(seen.rows) == 4 and seen.used.seconds is None and len(request.teacher.asked) == 8
    assert before == {path.name: path.read_bytes() for path in (tmp_path/'run').iterdir() if path.suffix != '.db'}


@pytest.mark.parametrize('given, says', [({'rows': 0}, 'rows must be'), ({'temprature': 1}, "did you mean 'temperature'"), ({'recipe': 'corsynth'}, 'corrsynth')])
def test_mistakes_are_refused(given, says):
    with pytest.raises((ValueError, TypeError), match=says): preview('sst2', **{'n': 8} | given)
