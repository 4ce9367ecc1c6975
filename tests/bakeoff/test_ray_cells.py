"Cells written by actors of Ray: those of one process, also when an actor is killed in the middle of one, and all of them together keep to one limit."
import os
import signal
import sys
from unittest.mock import patch

import numpy as np
import pytest
from fault_server import FaultServer
from scripted_teacher import ScriptedTeacher
from synthlab.bakeoff import page as pages
from synthlab.bakeoff.cells import read_note
from synthlab.bakeoff.page import bake_off
from synthlab.run.engine import RayEngine
from synthlab.teacher.chat import ChatTeacher
from test_bakeoff import comparable

ray = pytest.importorskip('ray', reason='actors on many machines need Ray: pip install "ray[data]>=2.50"')
pytestmark = pytest.mark.long
# The actors cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Counts:
    "Unit vectors of the letters of a text."
    name = 'counts'
    def encode(self, texts, progress=None):
        rows = np.array([[1 + text.lower().count(letter) for letter in 'aeioulnrst'] for text in texts], np.float32).reshape(len(texts), 10)
        return rows/np.linalg.norm(rows, axis=1, keepdims=True)


class Killing(RayEngine):
    "Kills the process of the first actor that has written a part of its cell."

    def __init__(self, actors): super().__init__(actors); self.asked, self.processes, self.killed = {}, {}, []

    def call(self, handle, method, *arguments):
        ticket = super().call(handle, method, *arguments)
        self.asked[ticket] = handle
        return ticket

    def value(self, ticket):
        told, handle = super().value(ticket), self.asked[ticket]
        if told.get('process'): self.processes[handle] = told['process']
        if not self.killed and not told.get('done') and any(told.get('so_far', {}).values()):
            os.kill(self.processes[handle], signal.SIGKILL)
            self.killed += [*told['so_far']]
        return told


@pytest.fixture(autouse=True)
def no_page():
    with patch.object(pages, 'bakeoff_html', return_value=''): yield


def contest(out, teacher, recipes, budget, **others):
    return bake_off('ag_news', recipes, budget, seeds=2, out=out, student='none', teacher=teacher, embedder=Counts(), tell=lambda *_: None, **others)


def test_cells_of_a_server_are_those_of_one_process_and_keep_to_one_limit_though_an_actor_is_killed(cluster, tmp_path):
    recipes, out = ['fewgen', 'targen'], tmp_path/'beside'
    def ask(limit, **others): return contest(out, ChatTeacher('owl', server.url, concurrency=4), recipes, 600, machine={'limits': {'max_calls': limit}} if limit else {}, **others)
    with FaultServer(seed=1, delay=.1, answer=ScriptedTeacher().serve) as server:
        alone = contest(tmp_path/'alone', ChatTeacher('owl', server.url), recipes, 600)
        needed = server.received.total()
        server.received.clear(), server.answered.clear()
        short = ask(limit := needed//2, engine=(engine := Killing(2)))
        assert engine.killed and limit//2 < server.received.total() <= limit and short.failed
        assert all('for all cells together is spent: give a larger limit' in fault for fault in short.failed)
        done = ask(None, engine=RayEngine(2))
        again = server.received.total() - len(server.received)
    assert not done.failed and comparable(done) == comparable(alone)
    # only what was in flight at the kill, or when a cell was full or had its share
    lost = sum(read_note(out, f'{recipe}/{seed}')['lost'].get('calls', 0) for recipe in recipes for seed in (0, 1))
    assert again <= lost <= 20 and not (out/'outbox').exists() and not list(out.glob('*/*.legs'))


def test_cells_of_a_model_are_those_of_one_process_though_an_actor_is_killed(cluster, tmp_path):
    recipes, engine = ['corrsynth'], Killing(2)
    alone = contest(tmp_path/'alone', 'pocket', recipes, 300)
    done = contest(tmp_path/'beside', 'pocket', recipes, 300, engine=engine)
    assert engine.killed and not done.failed and comparable(done) == comparable(alone)
