"Cells written side by side are those of one process, and all of them together keep to one limit."
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from fault_server import FaultServer
from hypothesis import given, settings, strategies as st
from scripted_teacher import ScriptedTeacher
from synthlab.bakeoff import page as pages
from synthlab.bakeoff.page import bake_off
from synthlab.bakeoff.schedule import Schedule
from synthlab.cli.main import main as synthlab
from synthlab.run.engine import ThreadEngine
from synthlab.run.recipe import Recipe
from synthlab.store.runs import read_status
from synthlab.teacher.budget import Usage
from synthlab.teacher.chat import ChatTeacher
from test_bakeoff import Hashed, comparable

RECIPES = ['fewgen', Recipe.fewgen(name='kept', align='mmd', keep='rows', candidates=2), 'targen']


@pytest.fixture(autouse=True)
def no_page():
    with patch.object(pages, 'bakeoff_html', return_value=''): yield


def contest(out, teacher=None, recipes=RECIPES, budget=120, **others):
    return bake_off('ag_news', recipes, budget, seeds=2, out=out, student='none', teacher=teacher or ScriptedTeacher(), embedder=Hashed(), tell=lambda *_: None, **others)


def threads(actors=2, kind=ThreadEngine): return kind(actors, make=ScriptedTeacher)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    with patch.object(pages, 'bakeoff_html', return_value=''): return contest(tmp_path_factory.mktemp('alone')/'run')


def test_cells_side_by_side_are_those_of_one_process(alone, tmp_path):
    done = contest(tmp_path/'beside', engine=threads(3))
    assert not done.failed and comparable(done) == comparable(alone)
    assert not (tmp_path/'beside'/'outbox').exists() and not list((tmp_path/'beside').glob('*/*.legs'))


def test_a_cell_of_a_lost_actor_goes_on_in_another(alone, tmp_path):
    class Losing(ThreadEngine):
        "Loses its first actor when a cell has come back."
        lost = False
        def value(self, ticket):
            told = super().value(ticket)
            if told.get('done') and not self.lost:
                self.lost = True
                self.lose(0)
            return told
    engine = threads(2, Losing)
    assert comparable(contest(tmp_path/'lost', engine=engine)) == comparable(alone)
    assert engine.lost and len(engine.threads) == 3


def test_words_count_cells_and_tokens(tmp_path):
    told = []
    bake_off('ag_news', ['fewgen'], 100, seeds=2, out=tmp_path/'run', teacher=ScriptedTeacher(), embedder=Hashed(), tell=lambda *word: told.append(word))
    assert told[0] == ('fewgen, seed 0 (1 of 2)', 0) and any(text.startswith('fewgen, seed 1 (2 of 2): ') and text.endswith(' of 100 tokens') for text, _ in told)
    assert all(0 <= share <= 1 for _, share in told)


@pytest.mark.parametrize('engine', [None, ThreadEngine(2)], ids=['in turn', 'side by side'])
def test_a_limit_holds_for_all_cells_together_and_a_larger_one_goes_on(tmp_path, engine):
    out = tmp_path/'limited'
    def ask(limit):
        machine = {'limits': {'max_calls': limit}} if limit else {}
        return contest(out, ChatTeacher('owl', server.url), ['fewgen', 'simprompt'], 100, machine=machine, engine=engine)
    def calls(): return sum(status['calls']['calls'] + status['lost']['calls'] for status in map(read_status, {path.parent for path in out.rglob('run.db')}))
    with FaultServer(seed=1, answer=ScriptedTeacher().serve) as server:
        whole = contest(tmp_path/'whole', ChatTeacher('owl', server.url), ['fewgen', 'simprompt'], 100)
        needed = server.received.total()
        server.received.clear(), server.answered.clear()
        short = ask(needed//2)
        assert server.received.total() <= needed//2 and short.failed
        assert all('for all cells together is spent: give a larger limit' in fault for fault in short.failed)
        # enough of it is used that a cell is finished
        assert server.received.total() > needed//3 and len(short.failed) < 4
        done = ask(None)
    assert not done.failed and comparable(done) == comparable(whole)
    assert server.stats()['most_answers'] == 1


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_whatever_cells_need_they_keep_to_the_limit_and_use_it(tmp_path_factory, data):
    needs = {f'r/{seed}': data.draw(st.integers(1, 30), f'need {seed}') for seed in range(data.draw(st.integers(1, 6), 'cells'))}
    limit, places = data.draw(st.integers(1, 120), 'limit'), data.draw(st.integers(1, 4), 'places')
    taken = dict.fromkeys(needs, 0)
    class Counted(Schedule):
        def _usage(self, cell): return Usage(calls=taken[cell])
    contest = SimpleNamespace(cells=[('r', seed) for seed in range(len(needs))], machine={'limits': {'max_calls': limit}})
    schedule, running, finished = Counted(tmp_path_factory.mktemp('run'), contest, places), {}, set()
    for _, item in zip(range(1000), schedule.items()):
        if item: running[item[0]] = item[1]['limits']['max_calls']
        assert sum(taken[cell] if cell not in running else running[cell] for cell in needs) <= limit and len(running) <= places
        if running and (not item or data.draw(st.booleans(), 'one ends')):
            cell = data.draw(st.sampled_from(sorted(running)), 'which')
            room = running.pop(cell)
            taken[cell] = min(needs[cell], room)
            if is_short := needs[cell] > room: pass
            else: finished.add(cell)
            schedule.take({'cell': cell, 'error': 'spent' if is_short else '', 'limited': is_short, 'seconds': 0., 'lost': {}})
    assert not schedule.waiting and not running
    # what is left is too little for the cell that was tried last, or nothing is wanted
    assert len(finished) == len(needs) or sum(taken.values()) == limit


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, capsys):
    with pytest.raises(ValueError, match='leave the outbox out'): contest(tmp_path/'run', engine=ThreadEngine(1, outbox=tmp_path))
    with pytest.raises(ValueError, match='no other process can make'): contest(tmp_path/'run', engine=ThreadEngine(1))
    assert synthlab(['bake-off', 'sst2', '--recipes', 'fewgen', '--budget', '50', '--actors', '2', '--out', str(tmp_path/'run')]) == 2
    assert 'there is no --ray' in ' '.join(capsys.readouterr().err.split())
    assert not (tmp_path/'run').exists()
