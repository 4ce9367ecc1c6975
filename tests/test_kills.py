"kill -9 at any moment, then the same command: the same rows as if nothing had happened, and no finished call made again."
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from fault_server import FaultServer, good_text
from synthlab import generation
from synthlab.corrsynth import CorrSynth, FewGen
from synthlab.decoding import Sampling
from synthlab.production import make_teacher, produce, write_recipe
from synthlab.runs import read_counts, read_rows
from synthlab.tasks import load_task

KILLS = 20
FRESH = multiprocessing.get_context('forkserver')
FRESH.set_forkserver_preload(['synthlab.production', 'synthlab.chat'])


def session(recipe, out, log):
    "What the killed process does: note the key of every group that it starts, and produce."
    class Noted(generation.GroupWriter):
        def ask(self, plans):
            with open(log, 'a') as file:
                def noted():
                    for plan in plans:
                        if plan is not None: print(self.key(plan), file=file, flush=True)
                        yield plan
                yield from super().ask(noted())
    generation.GroupWriter = Noted
    produce(recipe, out, watch=lambda groups, *_: groups)


def stored(out, column):
    "One column of the calls in a run, as the killed process left them."
    if not (out/'run.db').exists(): return set()
    with closing(sqlite3.connect(out/'run.db')) as db:
        there = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'calls'").fetchone() == (1,)
        return {value for value, in db.execute(f'SELECT {column} FROM calls')} if there else set()


def killed(recipe, out, log, delay):
    "A session that is killed after a while; whether it was, and did not end before."
    process = FRESH.Process(target=session, args=(recipe, out, log))
    process.start()
    process.join(delay)
    alive = process.is_alive()
    if alive: os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == (-signal.SIGKILL if alive else 0)
    return alive


def same_rows(one, other):
    assert list(read_rows(one, None)) == list(read_rows(other, None))
    assert read_counts(one) == read_counts(other)
    assert (one/'dataset.jsonl').read_bytes() == (other/'dataset.jsonl').read_bytes()


def test_corrsynth_survives_twenty_kills(tmp_path):
    task, rng, kills, tries = load_task('sst2'), random.Random(0), 0, 0
    recipe = write_recipe(CorrSynth(delta=.5, repeats=2), task, make_teacher({'teacher': {'name': 'pocket'}}), 96, shots=1, sampling=Sampling(24, .95, .9), machine={'max_rows': 8})
    session(recipe, tmp_path/'whole', tmp_path/'whole.log')
    while kills < KILLS:
        tries, out, log = tries + 1, tmp_path/f'run{tries}', tmp_path/f'run{tries}.log'
        log.touch()
        done, alive = set(), True
        while alive:
            begun = len(log.read_text().split())
            alive = killed(recipe, out, log, rng.uniform(.1, 3))
            kills += alive
            assert not done & set(log.read_text().split()[begun:]), 'a stored group was decoded again'
            done |= stored(out, 'key')
        same_rows(out, tmp_path/'whole')


@pytest.fixture
def served(monkeypatch):
    "Two servers of one kind: for the run that is killed, and for the one that is not."
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-none')
    options = dict(seed=3, faults=.25, delay=.03, kinds=['500', '429 after', 'drop', 'malformed', 'refusal', 'empty'])
    with FaultServer(**options) as one, FaultServer(**options) as other: yield one, other


def chat_recipe(server):
    teacher = {'teacher': {'kind': 'chat', 'name': 'owl', 'base_url': server.url}, 'machine': {'chat': {'concurrency': 8}}}
    return write_recipe(FewGen(), load_task('ag_news'), make_teacher(teacher), 240, shots=1, machine=teacher['machine'])


def test_a_chat_run_survives_twenty_kills(tmp_path, served):
    (server, calm), rng, kills, tries = served, random.Random(1), 0, 0
    session(chat_recipe(calm), tmp_path/'whole', tmp_path/'log')
    while kills < KILLS:
        tries, out, done, alive = tries + 1, tmp_path/f'run{tries}', set(), True
        server.received.clear()
        while alive:
            begun = len(server.bodies)
            alive = killed(chat_recipe(server), out, tmp_path/'log', rng.uniform(.1, 2))
            kills += alive
            time.sleep(.1)                                        # what was on its way to the server arrives
            asked = {good_text(body) for body in server.bodies[begun:]}
            assert not done & asked, 'a stored call was made again'
            done |= stored(out, "json_extract(entry, '$.text')") - {''}
        same_rows(out, tmp_path/'whole')
        assert sum(read_counts(out)['accepted'].values()) == 240


def test_the_key_is_nowhere_in_a_run(tmp_path, monkeypatch, capfd):
    key = 'sk-planted-0123456789abcdef'
    monkeypatch.setenv('OPENAI_API_KEY', key)
    with FaultServer(seed=3, faults=.4, echo=True) as server:
        recipe = chat_recipe(server) | {'n': 24}
        produce(recipe, tmp_path/'run')
        from synthlab.production import replay
        row = next(read_rows(tmp_path/'run'))
        told = [repr(replay(tmp_path/'run', row['id'], fresh=True)), repr(make_teacher(recipe)), *capfd.readouterr()]
    assert any(key in head.get('authorization', '') for head in server.headers), 'the key was not sent, so the test shows nothing'
    for path in tmp_path.rglob('*'):
        if path.is_file(): assert key.encode() not in path.read_bytes(), path
    assert not any(key in text for text in told)
