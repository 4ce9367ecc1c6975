"A bake-off gives every recipe the same tokens, tells its numbers truly, goes on where it was stopped, and lets no recipe take the others down."
import csv
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter, defaultdict
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from bs4 import BeautifulSoup
from scipy import stats
from scripted_teacher import ScriptedTeacher
from synthlab.bakeoff import cells, page as pages
from synthlab.bakeoff.page import bake_off, result_tables
from synthlab.bakeoff.scores import MEASURES, TABLES, Probe, over_seeds, paired, summarise, winners
from synthlab.cli import main as cli
from synthlab.decode.loop import Sampling
from synthlab.measure.evaluate import Rows, matched, sample_rows
from synthlab.measure.labels import mmd, self_bleu, vendi_score
from synthlab.run.recipe import Recipe
from synthlab.store.runs import RunError, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.requests import Answer

BUDGET = 600


@cache
def word_vector(word): return np.random.default_rng(list(word.encode())).normal(size=24)


@cache
def text_vector(text):
    total = np.sum([word_vector(word) for word in text.split() or ['']], axis=0)
    return total/np.linalg.norm(total)


class Hashed:
    "Unit vectors that a text's words decide."
    name = 'hashed'
    def encode(self, texts, progress=None): return np.array([text_vector(text) for text in texts], dtype=np.float32).reshape(len(texts), 24)


def contest(out, recipes='fewgen,simprompt', budget=BUDGET, teacher=None, task='ag_news', page=False, **others):
    "A bake-off by a teacher that answers at once; its page is drawn only where it is looked at."
    options = {'seeds': 2, 'embedder': Hashed(), 'tell': lambda *_: None} | others
    with nullcontext() if page else patch.object(pages, 'bakeoff_html', return_value=''): return bake_off(task, recipes, budget, out=out, teacher=teacher or ScriptedTeacher(), **options)


def comparable(done):
    "The cells without what another session may take longer for, or ask again."
    return [{**cell, 'cost': {'candidate_tokens': cell['cost']['candidate_tokens']}} for cell in done.record['cells']], done.record['references'], done.record['summary']


@pytest.fixture(scope='module')
def gold(tmp_path_factory):
    "A folder with parts train and test, of the texts written by hand and variations of them."
    folder, task = tmp_path_factory.mktemp('gold')/'news', load_task('ag_news')
    folder.mkdir()
    for part, times in (('train', 40), ('test', 4)):
        rows = [{'text': f'{text} {part} {n}', 'label': label.name} for n in range(times) for label in task.labels for text in label.tests[:4]]
        (folder/f'{part}.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope='module')
def done(tmp_path_factory, gold):
    "Three recipes, three seeds, with gold rows."
    return contest(tmp_path_factory.mktemp('bakeoff')/'done', ['fewgen', 'simprompt', Recipe.fewgen(name='kept', align='mmd', keep='rows', candidates=2)], gold=gold, seeds=3, show=60, mixed=40, page=True)


# ---- tokens

def test_all_get_the_same_tokens_within_a_round_of_all_labels(done):
    for cell in done.record['cells']:
        rows = list(read_rows(done.out/cell['recipe']/str(cell['seed']), None))
        spent = sum(row['tokens'] for row in rows)
        written = Counter(row['label_target'] for row in rows)
        assert max(written.values()) == min(written.values())                          # no label had one turn more
        assert cell['cost']['candidate_tokens'] == spent
        assert abs(spent - BUDGET) <= len(written)*max(row['tokens'] for row in rows)
        assert cell['cost']['completion_tokens'] >= spent                              # what the calls of the run have taken in all


def test_what_alignment_leaves_out_counts(done):
    cell = next(cell for cell in done.record['cells'] if cell['recipe'] == 'kept')
    assert cell['counts']['rejected']['left out by alignment'] > .3*cell['counts']['candidates']
    assert cell['measures']['rows'] == sum(cell['counts']['accepted'].values()) < .7*cell['counts']['candidates']


@pytest.mark.parametrize('recipe', ['attrprompt', 'targen'])
def test_calls_for_other_things_are_cost(tmp_path, recipe):
    done = contest(tmp_path/'run', recipe, seeds=1)
    cell, = done.record['cells']
    assert not cell['error'] and BUDGET*.9 <= cell['cost']['candidate_tokens'] <= BUDGET*1.1
    if recipe == 'targen': assert cell['cost']['calls'] > 2*cell['measures']['rows']                     # each label is looked at again


def test_groups_of_a_local_teacher(tmp_path):
    recipes = [Recipe.corrsynth(shots=0, delta=.5), Recipe.cfg(shots=0)]
    done = contest(tmp_path/'run', recipes, 400, 'pocket', task='sst2', seeds=1, sampling=Sampling(8, .95, .9))
    for cell in done.record['cells']:
        groups = defaultdict(int)
        for row in read_rows(tmp_path/'run'/cell['recipe']/'0', None): groups[row['group']] += row['tokens']
        assert cell['cost']['candidate_tokens'] == sum(groups.values()) and abs(sum(groups.values()) - 400) <= max(groups.values())
        assert sum(groups.values()) <= 400 + 16                                           # never more than a round too many


# ---- numbers

def test_intervals_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for n in (3, 4, 7):
        one, other = rng.normal(size=(2, n))
        low, high = stats.ttest_1samp(one, 0).confidence_interval(.95)
        found = over_seeds(one)
        assert found['n'] == n and np.allclose([found['mean'], *found['interval']], [one.mean(), low, high])
        low, high = stats.ttest_rel(one, other).confidence_interval(.95)
        assert np.allclose(paired(dict(enumerate(one)), dict(enumerate(other)))['interval'], [low, high])
        best = winners({'one': dict(enumerate(one)), 'other': dict(enumerate(other))}, 'higher')
        assert bool(best) == (stats.ttest_rel(one, other).pvalue < .05)


def test_a_probe_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression
    texts, labels, weights = [f'word{n} word{n % 3}' for n in range(30)], ['abc'[n % 3] for n in range(30)], [1 + n % 4 for n in range(30)]
    rows = [{'text': text, 'label': label, 'weight': weight} for text, label, weight in zip(texts, labels, weights)]
    X = Hashed().encode(texts)
    expected = LogisticRegression(C=3., max_iter=2000).fit(X, labels, weights).score(X, labels)
    assert Probe(Hashed()).fit(rows).score(rows) == expected


def test_a_cell_is_measured_as_its_rows_are_by_hand(done, gold):
    from sklearn.linear_model import LogisticRegression
    cell = done.record['cells'][0]
    rows = Rows.of(read_rows(done.out/cell['recipe']/str(cell['seed'])))
    test = Rows.of(map(json.loads, (gold/'test.jsonl').read_text().splitlines()))
    few = sample_rows(rows, done.record['sizes']['compared'])
    encode = Hashed().encode
    student = LogisticRegression(C=3., max_iter=2000).fit(encode(rows.texts), rows.labels)
    assert cell['measures']['student_synthetic'] == student.score(encode(test.texts), test.labels)
    assert cell['measures']['self_bleu'] == self_bleu(few.texts)
    assert cell['measures']['vendi_score'] == vendi_score(few.texts, embedder=Hashed())
    ours, real = matched(rows, test)
    assert cell['measures']['mmd'] == mmd(real.texts, ours.texts, embedder=Hashed(), real_labels=real.labels, fake_labels=ours.labels)


def test_values_of_an_earlier_way_to_measure_are_not_kept(tmp_path, gold, monkeypatch):
    from synthlab.bakeoff import scores
    first = contest(tmp_path/'a', 'fewgen', gold=gold, seeds=1)
    path = next((tmp_path/'a'/'fewgen').glob('*/measures.json'))
    written = path.read_text()
    monkeypatch.setattr(scores, '_EDITION', scores._EDITION + 1)
    assert comparable(contest(tmp_path/'a', 'fewgen', gold=gold, seeds=1))[0] == comparable(first)[0] and path.read_text() != written


def test_the_tables_say_what_the_cells_say(done):
    cells, means = done.record['cells'], done.record['summary']['means']
    assert [(cell['recipe'], cell['seed']) for cell in cells] == [(recipe, seed) for seed in range(3) for recipe in ('fewgen', 'simprompt', 'kept')]
    for name in [name for name in MEASURES if name != 'entity_entropy']:                # the words are nobody's names
        for recipe in done.record['recipes']:
            values = [cell['measures'][name] for cell in cells if cell['recipe'] == recipe]
            assert means[name][recipe]['mean'] == pytest.approx(np.mean(values)) and means[name][recipe]['n'] == 3, name
    differences = done.record['summary']['differences']['student_mixed']
    assert differences.keys() == {'simprompt', 'kept'}
    assert differences['kept']['mean'] == pytest.approx(means['student_mixed']['kept']['mean'] - means['student_mixed']['fewgen']['mean'])


def test_gold_rows_are_measured_too(done):
    found = {(cell['recipe'], cell['seed']): cell['measures'] for cell in done.record['references']}
    assert found.keys() == {(name, seed) for name in ('gold, 40', 'gold, as many') for seed in range(3)}
    assert found['gold, 40', 0]['rows'] == 40 and 'student_mixed' not in found['gold, 40', 0]
    assert found['gold, as many', 0]['student_synthetic'] > done.record['summary']['means']['student_synthetic']['fewgen']['mean']


def test_the_files_hold_every_number(done):
    record = json.loads((done.out/'bakeoff.json').read_text())
    assert record == json.loads(json.dumps(done.record))
    with (done.out/'bakeoff.csv').open(newline='') as file: lines = list(csv.DictReader(file))
    found = {(line['recipe'], int(line['seed']), line['measure']): float(line['value']) for line in lines}
    assert len(found) == len(lines)
    for cell in record['cells']:
        for name, value in (cell['measures'] | {name: value for name, value in cell['cost'].items() if value is not None}).items(): assert found[cell['recipe'], cell['seed'], name] == value
    assert 'bake_off(' in record['command']


def test_the_page_shows_them(done):
    soup = BeautifulSoup((done.out/'report.html').read_text(), 'html.parser')
    tables = soup.select('table.bakeoff')
    assert len(tables) == 2*len(TABLES) and soup.h1.text == 'ag_news: 3 recipes at 600 tokens'
    heads, lines = [th.text for th in tables[0].select('thead th')], {tr.th.text: [td.text for td in tr.select('td')] for tr in tables[0].select('tbody tr')}
    assert heads == ['recipe', 'seeds', 'accuracy ↑', 'macro-F1 ↑', 'accuracy, mixed ↑', 'macro-F1, mixed ↑']
    assert list(lines) == ['fewgen', 'simprompt', 'kept', 'gold, 40', 'gold, as many']
    mean = done.record['summary']['means']['student_synthetic']['fewgen']
    low, high = (100*end for end in mean['interval'])
    shown = f"± {(high - low)/2:.1f}" if high - 100*mean['mean'] == pytest.approx(100*mean['mean'] - low) else f'[{low:.1f}, {high:.1f}]'
    assert lines['fewgen'][:2] == ['3', f"{100*mean['mean']:.1f}% {shown}"]
    assert f"learnt from {done.record['sizes']['judge']:,} gold rows" in soup.text
    assert len(soup.select('figure svg')) == len(MEASURES) and 'http' not in soup.get_text()
    assert done.record['command'] in soup.text and all(recipe in done._repr_html_() for recipe in done.record['recipes'])


def test_what_a_model_wrote_is_escaped(tmp_path):
    evil = '<script>alert(1)</script> $x$ {{ 7*7 }} %s'
    made = contest(tmp_path/'run', 'simprompt', seeds=1, page=True, teacher=ScriptedTeacher(lambda asked: f'{asked.request.name} {evil} {asked.key[:6]}'))
    page = (tmp_path/'run'/'report.html').read_text()
    assert evil not in page and '&lt;script&gt;alert(1)&lt;/script&gt;' in page and '{{ 7*7 }}' in page
    assert '<script>alert' not in made._repr_html_()


def made_record(values, name='student_synthetic'):
    "A record of cells that have one measure: its values by recipe, one for each seed."
    cells = [{'recipe': recipe, 'seed': seed, 'error': '', 'measures': {name: value}, 'skipped': {}} for recipe, found in values.items() for seed, value in enumerate(found)]
    record = {'recipes': dict.fromkeys(values), 'cells': cells, 'references': []}
    return record | {'summary': summarise(record)}


def test_two_seeds_have_no_interval_and_no_mark():
    "With two seeds Student's t is 12.7: 25.1% was shown as ± 77.5, and marked as the best."
    record = made_record({'one': [.19, .312], 'other': [.10, .2219]})
    assert record['summary']['means']['student_synthetic']['one'] == {'mean': pytest.approx(.251), 'interval': None, 'n': 2}
    assert record['summary']['differences']['student_synthetic']['other']['interval'] is None
    assert not any(record['summary']['best'].values())
    line = result_tables(record)[0]['lines'][0]
    assert [cell['value'] for cell in line['cells'][:2]] == ['2', '25.1%'] and not any(cell['interval'] or cell['best'] for cell in line['cells'])


def test_the_interval_of_a_share_stays_within_0_and_1():
    record = made_record({'one': [.9, .95, 1.], 'other': [.02, .0, .1]})
    for mean in record['summary']['means']['student_synthetic'].values(): assert 0 <= mean['interval'][0] < mean['interval'][1] <= 1
    one, other = (line['cells'][1] for line in result_tables(record)[0]['lines'])
    assert one['interval'] == '[82.6, 100.0]' and other['interval'].startswith('[0.0, ')            # not 95.0 ± 12.4
    wide = made_record({'one': [1., 0., 1.], 'other': [0., 1., 0.]})['summary']['differences']['student_synthetic']['other']
    assert wide['interval'] == [-1, 1]


def test_equal_recipes_share_the_mark():
    same = [.8, .82, .84]
    record = made_record({'one': same, 'twin': same, 'last': [.1, .12, .14]})
    assert record['summary']['best']['student_synthetic'] == ['one', 'twin']
    assert [line['cells'][1]['best'] for line in result_tables(record)[0]['lines']] == [True, True, False]
    assert made_record({'one': same, 'twin': same})['summary']['best']['student_synthetic'] == []


def test_one_seed_has_no_interval(tmp_path):
    made = contest(tmp_path/'run', seeds=1, page=True)
    assert all(found['interval'] is None for means in made.record['summary']['means'].values() for found in means.values())
    assert not any(made.record['summary']['best'].values()) and '±' not in BeautifulSoup((tmp_path/'run'/'report.html').read_text(), 'html.parser').table.text


# ---- stopped and continued

class Stop(BaseException): "Stands for Ctrl-C."


def stopping(after):
    "A `tell` that stops the bake-off after so many words."
    def tell(*_):
        tell.left -= 1
        if not tell.left: raise Stop
    tell.left = after
    return tell


@pytest.mark.long
def test_it_goes_on_wherever_it_was_stopped(tmp_path):
    words, asked = [], {'budget': 300, 'seeds': 1}
    whole = contest(tmp_path/'whole', tell=lambda *word: words.append(word), **asked)
    for after in range(1, len(words), len(words)//6):
        out = tmp_path/f'at{after}'
        with pytest.raises(Stop): contest(out, tell=stopping(after), **asked)
        assert comparable(contest(out, **asked)) == comparable(whole), after


FRESH = multiprocessing.get_context('forkserver')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]/'tools'), str(Path(__file__).parent), os.environ.get('PYTHONPATH')]))
FRESH.set_forkserver_preload(['warm'])


def slow(out): contest(out, budget=400, teacher=ScriptedTeacher(delay=.01))


@pytest.mark.long
def test_it_survives_kills(tmp_path):
    whole, rng, kills = contest(tmp_path/'whole', budget=400), random.Random(0), 0
    while kills < 3:
        process = FRESH.Process(target=slow, args=(tmp_path/'killed',))
        process.start()
        deadline = time.monotonic() + 60
        while not (tmp_path/'killed'/'request.toml').exists() and time.monotonic() < deadline: time.sleep(.05)
        process.join(rng.uniform(.1, 1.5) if kills else .5)
        if not process.is_alive(): break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert kills and comparable(contest(tmp_path/'killed', budget=400)) == comparable(whole)


def test_finished_cells_are_not_repeated(tmp_path):
    first, second = ScriptedTeacher(), ScriptedTeacher()
    one = contest(tmp_path/'run', budget=300, teacher=first)
    assert contest(tmp_path/'run', budget=300, teacher=second).record == one.record and not second.asked
    more = contest(tmp_path/'run', 'fewgen,simprompt,attrprompt', 300, seeds=3, teacher=second)
    assert {(cell['recipe'], cell['seed']): cell['counts'] for cell in more.record['cells']}.items() >= {(cell['recipe'], cell['seed']): cell['counts'] for cell in one.record['cells']}.items()
    assert len(second.asked) < 2*len(first.asked)                                      # five cells more, and none of the four


CHANGES = {'budget': ({'budget': 500}, 'budget: 600 there, 500 now'), 'task': ({'task': 'sst2'}, 'something else'), 'teacher': ({'teacher': ScriptedTeacher(name='another')}, 'another'), 'mixed': ({'mixed': 7}, 'mixed'),
           'student': ({'student': 'none'}, 'student'), 'recipe': ({'recipes': [Recipe.fewgen(shots=1)]}, 'shots'), 'sampling': ({'sampling': Sampling(9)}, 'sampling')}


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp('bakeoff')/'small'
    contest(out, 'fewgen', seeds=1)
    return out


@pytest.mark.parametrize('change, told', CHANGES.values(), ids=CHANGES)
def test_another_request_is_refused(small, change, told):
    before = {path: path.read_bytes() for path in small.rglob('*') if path.is_file()}
    with pytest.raises(RunError, match=told) as refused: contest(small, **{'recipes': 'fewgen', 'seeds': 1} | change)
    assert 'choose another folder' in str(refused.value)
    assert before == {path: path.read_bytes() for path in small.rglob('*') if path.is_file()}


REFUSED = {'no such recipe': ({'recipes': 'fewgen,corsynth'}, 'corrsynth'), 'no logits': ({'recipes': 'fewgen,corrsynth'}, 'corrsynth: .*logits'), 'twice': ({'recipes': 'fewgen,fewgen'}, 'two recipes are named'),
           'fields': ({'task': 'rte', 'recipes': 'targen,fewgen'}, 'fewgen: .*targen'), 'no folder': ({'recipes': [Recipe.fewgen(name='../up')]}, 'folder'), 'none': ({'recipes': ' , '}, 'no recipe'),
           'no seeds': ({'seeds': 0}, 'one seed'), 'same seeds': ({'seeds': [1, 1]}, 'none twice'), 'no budget': ({'budget': 0}, 'budget')}


@pytest.mark.parametrize('change, told', REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, change, told):
    with pytest.raises(ValueError, match=told): contest(tmp_path/'run', **change)
    assert not (tmp_path/'run').exists()


def test_a_folder_with_something_else_stays(tmp_path):
    (tmp_path/'notes.txt').write_text('mine')
    with pytest.raises(RunError, match=r'notes.txt, which is no bake-off'): contest(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


# ---- failures

@pytest.mark.long
def test_a_recipe_that_fails_takes_no_other_down(tmp_path):
    shown = [demo for label in load_task('ag_news').labels for demo in label.demonstrations]
    def broken(asked): return Answer(error='timed out', attempts=5) if broken.on and not any(demo in asked.text for demo in shown) else None
    broken.on = True
    made = contest(tmp_path/'run', 'simprompt,fewgen', 300, page=True, teacher=ScriptedTeacher(broken))
    errors = {(cell['recipe'], cell['seed']): cell['error'] for cell in made.record['cells']}
    assert all(errors['simprompt', seed] and not errors['fewgen', seed] for seed in range(2)) and 'timed out' in errors['simprompt', 0]
    page = (tmp_path/'run'/'report.html').read_text()
    assert 'simprompt, seed 0, failed' in page and len(made.failed) == 2 and 'timed out' in made._repr_html_()
    broken.on = False
    assert comparable(contest(tmp_path/'run', 'simprompt,fewgen', 300, teacher=ScriptedTeacher(broken))) == comparable(contest(tmp_path/'whole', 'simprompt,fewgen', 300))


def test_a_recipe_whose_texts_are_all_rejected_is_told(tmp_path):
    made = contest(tmp_path/'run', 'simprompt,fewgen', seeds=1, page=True, teacher=ScriptedTeacher(lambda asked: Answer(' ', completion_tokens=9)))
    assert all('empty' in cell['error'] for cell in made.record['cells']) and made.record['summary']['means']['student_synthetic'] == {}
    assert (tmp_path/'run'/'report.html').exists()


# ---- the command

@pytest.fixture
def synthlab(tmp_path, monkeypatch, capsys):
    "Runs a command in an empty folder; tells its exit status and what it printed."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('synthlab.cli.runs.kept_embedder', Hashed)
    monkeypatch.setattr(cli, 'kept_embedder', Hashed)
    def run(line):
        capsys.readouterr()
        return cli.main(line.split()), *capsys.readouterr()
    return run


def test_the_command(synthlab):
    line = 'bake-off sst2 --recipes simprompt,fewgen --budget 250 --seeds 2 --max-new-tokens 8 --show 0 --out runs/two'
    status, out, err = synthlab(line)
    assert status == 0, err
    assert all(part in out for part in ('What a student learns', 'accuracy ↑', '4 of 4 cells are finished', 'runs/two/report.html')) and max(map(len, out.splitlines()[:20])) <= 80
    assert json.loads(Path('runs/two/bakeoff.json').read_text())['command'] == f'synthlab {line}'
    assert synthlab(line)[0] == 0
    assert synthlab(line.replace('250', '300'))[0] == 2 and synthlab(line.replace('simprompt', 'simpromt'))[0] == 2


def test_ctrl_c_and_failures_have_their_status(synthlab, monkeypatch):
    line = 'bake-off sst2 --recipes simprompt --budget 100 --seeds 1 --max-new-tokens 8 --out runs/one'
    def interrupted(*_, **__): raise KeyboardInterrupt
    with monkeypatch.context() as changed:
        changed.setattr(cells, 'produce', interrupted)
        status, _, err = synthlab(line)
        assert status == 130 and 'No cell was finished yet; the same command goes on with what is kept in runs/one' in err
    def failing(*_, **__): raise RunError('the disk is full')
    with monkeypatch.context() as changed:
        changed.setattr(cells, 'produce', failing)
        status, _, err = synthlab(line)
        assert status == 1 and 'simprompt, seed 0, failed: the disk is full' in err
    assert synthlab(line)[0] == 0


def test_the_help_teaches(synthlab):
    status, out, _ = synthlab('bake-off --help')
    assert status == 0 and 'synthlab bake-off ag_news --recipes' in out and '--budget' in out


# ---- what a cell costs, however often it was stopped

def cost_of(done): return [{name: value for name, value in cell['cost'].items() if name not in ('seconds', 'calls_apart')} for cell in done.record['cells']]


@pytest.mark.parametrize('recipes', ['fewgen', 'simprompt', 'targen'])
def test_answers_that_come_ahead_are_no_cost_of_the_cell(tmp_path, recipes):
    "Of many calls under way some are answered that no row needs any more; how many is the clock's doing."
    asked = {'recipes': recipes, 'budget': 60 if recipes != 'targen' else 150, 'seeds': 1}
    orders = [contest(tmp_path/f'{order}', teacher=ScriptedTeacher(order=order, window=window), **asked) for order, window in ((1, 2), (2, 8), (3, 16))]
    apart = [done.record['cells'][0]['cost']['calls_apart'] for done in orders]
    assert not any(done.failed for done in orders) and all(cost_of(done) == cost_of(orders[0]) for done in orders), [(cost_of(done), apart) for done in orders]
    assert any(apart) and all(done.record['cells'][0]['counts'] == orders[0].record['cells'][0]['counts'] for done in orders)


def test_calls_in_flight_at_a_kill_stand_apart(tmp_path):
    whole, out = contest(tmp_path/'whole', 'fewgen', budget=60, seeds=1), tmp_path/'killed'
    leg = out/'fewgen'/'0.legs'/'1'
    leg.mkdir(parents=True)
    for name in ('request.toml',): (out/name).write_bytes((tmp_path/'whole'/name).read_bytes())
    (leg/'run.sent').write_text('["a-0", "k1", 100, 8]\n["a-1", "k2", 100, 8]\n["a-')
    with pytest.warns(UserWarning, match='2 calls were in flight'): done = contest(out, 'fewgen', budget=60, seeds=1)
    assert cost_of(done) == cost_of(whole) and done.record['cells'][0]['cost']['calls_apart'] == 2 + whole.record['cells'][0]['cost']['calls_apart']
