"kill -9 at any moment, then the same command: the same rows as if nothing had happened, and no finished call made again."
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from fault_server import FaultServer, good_text
from synthlab.decode.loop import Sampling
from synthlab.run import generate as generation
from synthlab.run.produce import make_teacher, produce, make_config
from synthlab.run.recipe import Recipe
from synthlab.store.runs import open_run, read_counts, read_rows
from synthlab.tasks.task import load_task

KILLS = [2, pytest.param(4, marks=pytest.mark.long), pytest.param(20, marks=pytest.mark.long)]
FRESH = multiprocessing.get_context('forkserver')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]/'tools'), os.environ.get('PYTHONPATH')]))      # where the fork server finds warm.py
FRESH.set_forkserver_preload(['warm'])


def session(recipe, out, log, begun=None):
    "What the killed process does: produce; tell when it begins, and note the key of every group that it starts."
    class Noted(generation.GroupWriter):
        def ask(self, plans):
            with open(log, 'a') as file:
                def noted():
                    for plan in plans:
                        if plan is not None: print(self.key(plan), file=file, flush=True)
                        yield plan
                yield from super().ask(noted())
    teacher = make_teacher(recipe)
    if begun: begun.set()
    with patch.object(generation, 'GroupWriter', Noted): produce(recipe, out, teacher, watch=lambda groups, *_: groups)      # sessions also run in the tests' own process


def stored(out):
    "The calls in a run, as the killed process left them."
    if not ((out/'recipe.toml').exists() and (out/'run.db').exists()): return {}
    with open_run(out) as run: return dict(run.calls)


def started(log):
    "How many groups the sessions with this log have started."
    return len(log.read_text().split()) if log.exists() else 0


def killed(recipe, out, log, rng, most, count=started):
    "A session that is killed soon after it has started so many groups at most, or once in five while it is still starting; whether it was, and did not end before."
    begun, until = FRESH.Event(), count(log) + rng.randint(0, most)
    process = FRESH.Process(target=session, args=(recipe, out, log, begun))
    process.start()
    if rng.random() > .2:
        begun.wait(60)
        while process.is_alive() and count(log) < until: time.sleep(.01)       # by its progress, which a busy machine only delays
    process.join(rng.uniform(0, .5))
    if process.is_alive(): os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def same_rows(one, other):
    assert list(read_rows(one, None)) == list(read_rows(other, None))
    assert read_counts(one) == read_counts(other)
    assert (one/'dataset.jsonl').read_bytes() == (other/'dataset.jsonl').read_bytes()


@pytest.mark.parametrize('least', KILLS)
def test_corrsynth_survives_kills(tmp_path, least):
    task, rng, kills, tries = load_task('sst2'), random.Random(0), 0, 0
    recipe = make_config(Recipe.corrsynth(delta=.5, repeats=2, shots=1), task, make_teacher({'teacher': {'name': 'pocket'}}), 48, sampling=Sampling(12, .95, .9), machine={'max_rows': 8})
    session(recipe, tmp_path/'whole', tmp_path/'whole.log')
    most = started(tmp_path/'whole.log')//3
    while kills < least:
        tries, out, log = tries + 1, tmp_path/f'run{tries}', tmp_path/f'run{tries}.log'
        log.touch()
        done, alive = set(), True
        while alive:
            begun = len(log.read_text().split())
            alive = killed(recipe, out, log, rng, most)
            kills += alive
            assert not done & set(log.read_text().split()[begun:]), 'a stored group was decoded again'
            done |= stored(out).keys()
        same_rows(out, tmp_path/'whole')


@pytest.fixture
def served(monkeypatch):
    "Two servers of one kind: for the run that is killed, and for the one that is not."
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-none')
    options = dict(seed=3, faults=.25, delay=.03, kinds=['500', '429 after', 'drop', 'malformed', 'refusal', 'empty'])
    with FaultServer(**options) as one, FaultServer(**options) as other: yield one, other


def chat_recipe(server):
    teacher = {'teacher': {'kind': 'chat', 'name': 'owl', 'base_url': server.url}, 'machine': {'chat': {'concurrency': 8}}}
    return make_config(Recipe.fewgen(shots=1), load_task('ag_news'), make_teacher(teacher), 240, machine=teacher['machine'])


@pytest.mark.parametrize('least', KILLS)
def test_a_chat_run_survives_kills(tmp_path, served, least):
    (server, calm), rng, kills, tries = served, random.Random(1), 0, 0
    session(chat_recipe(calm), tmp_path/'whole', tmp_path/'log')
    def answered(log): return server.answered.total()                     # a chat teacher starts groups long before they are asked for
    while kills < least:
        tries, out, done, alive = tries + 1, tmp_path/f'run{tries}', set(), True
        server.received.clear()
        while alive:
            begun = len(server.bodies)
            alive = killed(chat_recipe(server), out, tmp_path/'log', rng, 80, answered)
            kills += alive
            time.sleep(.1)                                        # what was on its way to the server arrives
            asked = {good_text(body) for body in list(server.bodies)[begun:]}
            assert not done & asked, 'a stored call was made again'
            done |= {call['text'] for call in stored(out).values()} - {''}
        same_rows(out, tmp_path/'whole')
        assert sum(read_counts(out)['accepted'].values()) == 240


def test_the_key_is_nowhere_in_a_run(tmp_path, monkeypatch, capfd):
    key = 'sk-planted-0123456789abcdef'
    monkeypatch.setenv('OPENAI_API_KEY', key)
    with FaultServer(seed=3, faults=.4, echo=True) as server:
        recipe = chat_recipe(server) | {'n': 24}
        produce(recipe, tmp_path/'run', make_teacher(recipe))
        from synthlab.run.produce import replay
        row = next(read_rows(tmp_path/'run'))
        told = [repr(replay(tmp_path/'run', row['id'], fresh=True)), repr(make_teacher(recipe)), *capfd.readouterr()]
    assert any(key in head.get('authorization', '') for head in server.headers), 'the key was not sent, so the test shows nothing'
    for path in tmp_path.rglob('*'):
        if path.is_file(): assert key.encode() not in path.read_bytes(), path
    assert not any(key in text for text in told)
