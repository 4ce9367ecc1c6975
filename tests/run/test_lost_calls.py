"What is paid for counts: calls in flight at a kill, and usage figures that no server can mean."
import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import fault_server
import pytest
from fault_server import FaultServer
from synthlab.run.produce import export_run, make_config, make_teacher, produce
from synthlab.run.recipe import Recipe
from synthlab.store.runs import read_rows, read_status
from synthlab.tasks.task import load_task

FRESH = multiprocessing.get_context('forkserver')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]/'tools'), os.environ.get('PYTHONPATH')]))
FRESH.set_forkserver_preload(['warm'])


def recipe_for(server, n=60, **machine):
    machine = {'chat': {'concurrency': 8}, **machine}
    teacher = {'teacher': {'kind': 'chat', 'name': 'owl', 'base_url': server.url}, 'machine': machine}
    return make_config(Recipe.fewgen(shots=1), load_task('ag_news'), make_teacher(teacher), n, machine=machine)


def session(recipe, out): produce(recipe, out, make_teacher(recipe), watch=lambda groups, *_: groups)


def test_a_limit_holds_through_kills(tmp_path):
    "Three kills with calls in flight: the server has delivered no more than the limit, and what was lost is shown."
    out = tmp_path/'run'
    with FaultServer(seed=3, delay=.15) as server:
        recipe = recipe_for(server, limits={'max_calls': 57})
        for kill in range(3):
            process, before = FRESH.Process(target=session, args=(recipe, out)), len(server.bodies)
            process.start()
            deadline = time.monotonic() + 60
            while len(server.bodies) < before + 12 and time.monotonic() < deadline: time.sleep(.01)
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        lost = read_status(out)['lost']['calls']
        assert 3 <= lost <= 3*16                                       # eight at the server, and eight answers that were not stored yet
        with pytest.warns(UserWarning, match='in flight when the process ended. They may have been paid for'): done = produce(recipe, out, make_teacher(recipe))
        sent = len(server.bodies)
    assert sent <= 57 and done.stopped.startswith('max_calls = 57 is spent') and done.lost.calls == lost and done.usage.calls == 57 - lost
    assert read_status(out)['lost'] == {name: getattr(done.lost, name) for name in ('calls', 'prompt_tokens', 'completion_tokens')}


def test_a_run_that_ends_well_has_lost_nothing(tmp_path):
    with FaultServer(seed=3, faults=.3, kinds=['500', 'drop', 'malformed']) as server: done = produce(recipe_for(server, 24), tmp_path/'run', make_teacher(recipe_for(server)))
    assert not done.lost.calls and read_status(tmp_path/'run')['lost']['calls'] == 0 and not (tmp_path/'run'/'run.sent').exists()


@pytest.mark.parametrize('figure', [2**62, 2**63, -7, 10**40])
def test_impossible_usage_is_unknown(tmp_path, figure, monkeypatch):
    "A server that makes its figures up: the run ends, and is read, exported and gone on with."
    out, honest = tmp_path/'run', fault_server.completion
    monkeypatch.setattr(fault_server, 'completion', lambda *a, **o: honest(*a, **o) | {'usage': dict.fromkeys(('prompt_tokens', 'completion_tokens'), figure)})
    with FaultServer(seed=3) as server:
        recipe = recipe_for(server, 8)
        done = produce(recipe, out, make_teacher(recipe))
        assert sum(done.counts['accepted'].values()) == 8
        calls = read_status(out)['calls']
        assert calls['unknown_tokens'] == calls['calls'] >= 8 and calls['prompt_tokens'] == 0 and done.usage.unknown_tokens == calls['calls']
        assert export_run(out, 'jsonl') and produce(recipe, out, make_teacher(recipe)).usage.tokens == done.usage.tokens > 0


def test_a_run_that_holds_impossible_usage_is_read(tmp_path):
    out = tmp_path/'run'
    with FaultServer(seed=3) as server:
        recipe = recipe_for(server, 8)
        produce(recipe, out, make_teacher(recipe))
        with sqlite3.connect(out/'run.db') as db: db.execute('UPDATE calls SET prompt_tokens = 4611686018427387904, hash = x\'\'')
        with sqlite3.connect(out/'run.db') as db: db.execute('ALTER TABLE calls DROP COLUMN hash'), db.execute('PRAGMA user_version = 2')
        assert read_status(out)['calls']['prompt_tokens'] == 0 and export_run(out, 'jsonl') and len(list(read_rows(out))) == 8
        produce(recipe, out, make_teacher(recipe))
