"Where the teacher is asked does not show: the same rows from threads as from this process, nothing asked twice that an outbox holds, and no key on its way."
import multiprocessing
import os
import signal
import socket
import sqlite3
import sys
import time
import warnings
from contextlib import closing
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal
from unittest.mock import patch

import pytest
from endure import CountingServer
from fault_server import FaultServer
from hypothesis import given, strategies as st
from pydantic import BaseModel
from scripted_teacher import ScriptedTeacher
from synthlab.blocks import RayMap
from synthlab.cli.runs import engine_of
from synthlab.decode.sampling import Sampling
from synthlab.run import engine as engines
from synthlab.teacher.batch import BatchTeacher
from synthlab.run.engine import Crew, RayEngine, ServedTeacher, ThreadEngine, Worker, actor_share, cpu_share, teacher_description
from synthlab.run.produce import make_config, make_teacher, produce
from synthlab.run.recipe import Recipe
from synthlab.store.calls import Outbox, outbox_entries
from synthlab.store.runs import OUTBOX, open_run, read_counts, read_rows, read_status
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Request
from synthlab.teacher.servers import remember_server

FRESH = multiprocessing.get_context('forkserver')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]/'tools'), os.environ.get('PYTHONPATH')]))
FRESH.set_forkserver_preload(['warm'])


def silent(groups, *_): return groups


def written(recipe, task, teacher, n, out, engine=None, sampling=None, **machine):
    "All rows of a run, as they are stored."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        produce(make_config(recipe, load_task(task), teacher, n, sampling=sampling, seed=3, machine=machine), out, teacher, watch=silent, engine=engine)
    return (out/'dataset.jsonl').read_bytes(), list(read_rows(out, None)), read_counts(out)


# ---- the same rows

@pytest.mark.parametrize('recipe', [Recipe.corrsynth(delta=.5, repeats=2, shots=1), Recipe.cfg(delta=.5, shots=1)], ids=['corrsynth', 'cfg'])
def test_groups_are_those_of_one_process(recipe, tmp_path):
    teacher, options = CausalTeacher('pocket', max_rows=16), dict(sampling=Sampling(12, .95, .9))
    alone = written(recipe, 'sst2', teacher, 16, tmp_path/'alone', **options)
    assert written(recipe, 'sst2', teacher, 16, tmp_path/'threads', ThreadEngine(2), **options) == alone
    assert not (tmp_path/'threads'/OUTBOX).exists()


@pytest.mark.parametrize('name, task', [('targen', 'rte'), ('synalign', 'ag_news'), ('verbalized', 'ag_news')])
def test_requests_with_schemas_are_those_of_one_process(name, task, tmp_path):
    recipe, teacher = getattr(Recipe, name)(), ScriptedTeacher()
    alone = written(recipe, task, teacher, 12, tmp_path/'alone')
    assert written(recipe, task, teacher, 12, tmp_path/'threads', ThreadEngine(2, make=ScriptedTeacher)) == alone


def test_a_local_model_answers_requests_of_a_form(tmp_path):
    pytest.importorskip('llguidance')
    class Bird(BaseModel): name: Literal['wren', 'owl', 'finch']; legs: int
    asked = [Request([{'role': 'user', 'content': f'Bird {n}?'}], Sampling(24), Bird if n % 3 else None, sample=n, seed=None) for n in range(6)]
    teacher, crew = CausalTeacher('pocket', max_rows=2), Crew(ThreadEngine(1), teacher_description(CausalTeacher('pocket')), tmp_path)
    with closing(crew): replies = ServedTeacher(teacher, crew).complete(asked)
    assert [reply.answers for reply in replies] == [reply.answers for reply in teacher.complete(asked)] and any(reply.ok for reply in replies)


def test_a_server_is_asked_the_same_and_each_call_once(tmp_path):
    with FaultServer(seed=1, faults=.3, kinds=['500', 'drop', 'malformed', 'empty', 'schema'], answer=ScriptedTeacher().serve) as server:
        teacher, recipe = ChatTeacher('owl', server.url, concurrency=8, pause=.01), Recipe.fewgen(correct='self-correction')
        alone = written(recipe, 'ag_news', teacher, 40, tmp_path/'alone')
        asked = set(server.received)
        server.received.clear(), server.answered.clear()
        assert written(recipe, 'ag_news', teacher, 40, tmp_path/'threads', ThreadEngine(2)) == alone
        assert set(server.received) == asked and server.stats()['most_answers'] == 1
    assert read_status(tmp_path/'threads')['lost']['calls'] == 0 and not (tmp_path/'threads'/'run.sent').exists()


def test_all_actors_together_ask_a_server_for_no_more_than_one_process_would(tmp_path):
    with FaultServer(seed=1, delay=.05) as server:
        written(Recipe.fewgen(), 'ag_news', ChatTeacher('owl', server.url, concurrency=5), 40, tmp_path/'run', ThreadEngine(3))
        assert server.peak <= 5


def test_limits_hold(tmp_path):
    with FaultServer(seed=1) as server:
        recipe = make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher := ChatTeacher('owl', server.url), 60, machine={'limits': {'max_calls': 23}})
        with pytest.warns(UserWarning, match='max_calls'): done = produce(recipe, tmp_path/'run', teacher, watch=silent, engine=ThreadEngine(2))
        assert server.received.total() == 23 == done.usage.calls and done.stopped.startswith('max_calls = 23 is spent')


# ---- actors and drivers that end

class Losing(ThreadEngine):
    "Loses its newest actor whenever it has had so many results, at most so often."

    def __init__(self, actors, every, times): super().__init__(actors); self.every, self.left, self.had = every, times, 0

    def value(self, ticket):
        told = super().value(ticket)
        self.had += len(told.get('done', ()))
        if self.left and self.had >= self.every:
            self.left, self.had = self.left - 1, 0
            self.lose(max(self.threads))
        return told


def test_groups_of_lost_actors_are_decoded_again(tmp_path):
    teacher, options = CausalTeacher('pocket', max_rows=8), dict(sampling=Sampling(8, .95, .9))
    alone = written(Recipe.corrsynth(shots=1), 'sst2', teacher, 24, tmp_path/'alone', **options)
    engine = Losing(2, 3, 2)
    assert written(Recipe.corrsynth(shots=1), 'sst2', teacher, 24, tmp_path/'lost', engine, **options) == alone
    assert not engine.left and len(engine.threads) > 2


def test_requests_of_lost_actors_are_asked_again_only_if_no_outbox_has_them(tmp_path):
    with FaultServer(seed=1, delay=.03) as server:
        recipe, teacher = Recipe.fewgen(shots=1), ChatTeacher('owl', server.url, concurrency=8)
        alone = written(recipe, 'ag_news', teacher, 60, tmp_path/'alone')
        server.received.clear(), server.answered.clear()
        engine = Losing(2, 8, 2)
        assert written(recipe, 'ag_news', teacher, 60, tmp_path/'lost', engine) == alone
        again = server.received.total() - len(server.received)
    # two actors with four calls at the server and four that wait, each
    lost = read_status(tmp_path/'lost')['lost']['calls']
    assert not engine.left and again <= lost <= 2*8
    with open_run(tmp_path/'lost') as run: assert len(run.calls) == len(server.received)


def test_a_call_that_is_asked_again_needs_room_of_its_own(tmp_path):
    with FaultServer(seed=1, delay=.05) as server:
        recipe = make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher := ChatTeacher('owl', server.url, concurrency=4), 40, machine={'limits': {'max_calls': 40}})
        with pytest.raises(TeacherError, match='no room to make it again'), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            produce(recipe, tmp_path/'run', teacher, watch=silent, engine=Losing(1, 34, 1))
        time.sleep(.2)
        assert server.received.total() <= 40
    told = read_status(tmp_path/'run')
    assert told['calls']['calls'] + told['lost']['calls'] <= 40 and 'no room' in told['trouble']


def test_actors_that_all_end_at_once_end_the_run(tmp_path):
    class Doomed(ThreadEngine):
        def value(self, ticket): raise engines.ActorLost('no memory')
    with pytest.raises(TeacherError, match='4 actors have ended one after the other, and none had answered; the last: no memory'):
        written(Recipe.fewgen(), 'sst2', CausalTeacher('pocket'), 4, tmp_path/'run', Doomed(1))


def test_nobody_waits_for_ever_for_an_actor(tmp_path):
    class Late(ThreadEngine):
        def ready(self, tickets, seconds): time.sleep(.05); return []
    with pytest.raises(TeacherError, match='no actor has begun for 0.2 s'): written(Recipe.fewgen(), 'sst2', CausalTeacher('pocket'), 4, tmp_path/'run', Late(1, patience=.2))


def session(url, out):
    "What the killed driver does."
    os.environ.pop('OPENAI_API_KEY', None)
    teacher = ChatTeacher('owl', url, concurrency=8, pause=.01)
    produce(make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher, 60, seed=3), out, teacher, watch=silent, engine=ThreadEngine(2))


def stored(out):
    "Fingerprints of the calls that are in the store, and in outboxes."
    with open_run(out) as run: found = {call['model'] for call in run.calls.values()}
    waiting = {call['model'] for path in (out/OUTBOX).glob('*.jsonl') for call in outbox_entries(path).values()}
    return found - {''}, waiting - {''}


def test_a_killed_driver_takes_outboxes_in(tmp_path):
    with CountingServer(seed=1, delay=.02) as server:
        session(server.url, tmp_path/'whole')
        server.received.clear(), server.asked.clear()
        for kill in range(2):
            process, until = FRESH.Process(target=session, args=(server.url, tmp_path/'run')), len(server.asked) + 15
            process.start()
            # the first kill waits for answers in an outbox, however slow the disk is
            while process.is_alive() and (len(server.asked) < until or not kill and not kept(tmp_path/'run')): time.sleep(.005)
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            if kill == 0: leave_out(tmp_path/'run')
            time.sleep(.1)
            there, waiting = stored(tmp_path/'run')
            assert waiting or kill
            begun = len(server.asked)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            session(server.url, tmp_path/'run')
        assert not (there | waiting) & set(server.asked[begun:])
    assert (tmp_path/'run'/'dataset.jsonl').read_bytes() == (tmp_path/'whole'/'dataset.jsonl').read_bytes()
    assert list(read_rows(tmp_path/'run', None)) == list(read_rows(tmp_path/'whole', None))


def kept(out):
    "Keys of the answers that are in outboxes."
    return [key for path in (out/OUTBOX).glob('*.jsonl') for key in outbox_entries(path)]


def leave_out(out):
    "Take a few answers out of the store again, as if the kill had come before they were there: their outbox has them."
    with sqlite3.connect(out/'run.db') as db: db.executemany('DELETE FROM calls WHERE key = ?', [[key] for key in kept(out)[:3]])


def test_another_session_without_an_engine_takes_outboxes_in_too(tmp_path):
    "From a folder that was given, which the run remembers."
    with CountingServer(seed=1) as server:
        teacher, shared = ChatTeacher('owl', server.url, pause=.01), tmp_path/'shared'
        recipe = make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher, 12, seed=3)
        class Broken(ThreadEngine):
            "A driver that ends before it has booked anything."
            def value(self, ticket):
                if (told := super().value(ticket)).get('done'): raise KeyboardInterrupt
                return told
        def nothing(run, folder): assert not any(Path(folder).glob('*.jsonl')) or shared in Path(folder).parents
        with patch('synthlab.store.runs.Run.take_in', nothing), pytest.raises(KeyboardInterrupt):
            produce(recipe, tmp_path/'run', teacher, watch=silent, engine=Broken(1, outbox=shared))
        [place] = shared.iterdir()
        assert place.name.startswith('run-') and (waiting := {call['model'] for path in place.glob('*.jsonl') for call in outbox_entries(path).values()} - {''})
        begun = len(server.asked)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            produce(recipe, tmp_path/'run', teacher, watch=silent)
        assert not waiting & set(server.asked[begun:]) and not list(place.glob('*.jsonl'))


def test_an_actor_that_outlives_its_driver_is_waited_for(tmp_path):
    from synthlab.store.runs import _let_go
    outbox = Outbox(tmp_path/'1.jsonl')
    outbox.add('a', {'text': 'A wren.'})
    assert not _let_go(outbox.path, .2)
    outbox.close()
    assert _let_go(outbox.path, 0)


# ---- keys

def test_a_key_is_neither_handed_to_actors_nor_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv('OWL_KEY', 'sk-owl-0123456789abcdef')
    seen, start = [], ThreadEngine.start
    class Watched(ThreadEngine):
        def start(self, order, number, kind=Worker): seen.append(repr(order)); return start(self, order, number, kind)
        def call(self, handle, method, *arguments): seen.append(repr(arguments)); return super().call(handle, method, *arguments)
    with FaultServer(seed=1, echo=True) as server:
        teacher = ChatTeacher('owl', server.url, key_variable='OWL_KEY')
        remember_server(server.url, 'OWL_KEY')
        written(Recipe.fewgen(shots=1), 'ag_news', teacher, 8, tmp_path/'run', Watched(2))
        assert {head['authorization'] for head in server.headers} == {'Bearer sk-owl-0123456789abcdef'}
    assert 'OWL_KEY' in seen[0] and not any('0123456789abcdef' in text for text in seen)
    assert not any(b'0123456789abcdef' in path.read_bytes() for path in tmp_path.rglob('*') if path.is_file())


def test_an_actor_refuses_a_server_that_was_not_named_with_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv('OWL_KEY', 'sk-owl-0123456789abcdef')
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path/'config'))
    with FaultServer(seed=1) as server:
        teacher = ChatTeacher('owl', server.url, key_variable='OWL_KEY')
        recipe = make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher, 8)
        with patch('synthlab.run.produce.remember_server'), pytest.raises(TeacherError, match='cannot ask the teacher.*were not named together') as caught:
            produce(recipe, tmp_path/'run', teacher, watch=silent, engine=ThreadEngine(1))
        assert 'sk-owl' not in str(caught.value) and not server.received


# ---- what is refused

def order_for(folder, teacher, **changed):
    (folder/'driver.txt').write_text('word')
    return {'description': teacher_description(teacher), 'folder': str(folder), 'word': 'word', 'version': engines.__version__} | changed


def test_an_actor_checks_folder_version_and_teacher(tmp_path):
    teacher = CausalTeacher('pocket')
    assert Worker(order_for(tmp_path, teacher), 0).hello()['fault'] == ''
    assert "is not the driver's there" in Worker(order_for(tmp_path, teacher, word='another'), 0).hello()['fault']
    assert '9.9 in the driver' in Worker(order_for(tmp_path, teacher, version='9.9'), 0).hello()['fault']
    other = CausalTeacher('pocket', dtype='float64')
    assert Worker(order_for(tmp_path, teacher), 0, lambda: other).hello()['fault'] == "it is another teacher: dtype is 'float32' in the driver and 'float64' here"


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match='actors must be a whole number from 1'): ThreadEngine(0)
    with pytest.raises(ValueError, match='patience'): ThreadEngine(1, patience=-1)
    with patch.object(engines, 'find_spec', return_value=None), pytest.raises(ValueError, match=r'pip install "synthlab-text\[scale\]"'): RayEngine(2)
    with patch.object(engines, 'find_spec', return_value=True):
        for address in ('', 'ray://x:10001', 'host', 'host:0', 'host:99999', 'http://host:1'):
            with pytest.raises(ValueError, match='no address of a Ray cluster'): RayEngine(2, address)
        with socket.socket() as held:
            held.bind(('127.0.0.1', 0))                            # bound, and nobody listens
            start = time.monotonic()
            with pytest.raises(ValueError, match='nobody answers at'): RayEngine(2, f'127.0.0.1:{held.getsockname()[1]}')
        assert time.monotonic() - start < 6
        assert repr(engine_of('local', 3)) == "RayEngine(actors=3, address='local')"
    assert engine_of(None) is None
    with pytest.raises(ValueError, match='--outbox: there is no --ray'): engine_of(None, outbox=Path('x'))
    with pytest.raises(ValueError, match='object of your own'): teacher_description(ScriptedTeacher())
    asked = {'device': 'auto', 'device_map': 'auto', 'compiled': True, 'max_rows': 8, 'limits': {}}
    assert teacher_description(CausalTeacher('pocket'), asked)['machine'] == {'device': 'auto', 'device_map': 'auto', 'compiled': True}
    with BatchTeacher('owl', 'http://127.0.0.1:9/v1') as teacher, pytest.raises(ValueError, match='--no-batch'): teacher_description(teacher)


def test_the_command_line_refuses_actors_without_ray(tmp_path, capsys):
    from synthlab.cli.main import main
    for command in (['generate', 'sst2', '--actors', '2', '--out', f'{tmp_path}/run'], ['generate', 'sst2', '--ray', 'local', '--actors', '0', '--out', f'{tmp_path}/run']):
        with pytest.raises(SystemExit) as stop: sys_exit(main(command))
        assert stop.value.code == 2
    assert '--actors: there is no --ray' in capsys.readouterr().err.replace('\n', ' ')


def sys_exit(code): raise SystemExit(code)


def test_a_cluster_that_does_not_start_says_what_to_do(monkeypatch):
    "Ray's own word for it is a bare Exception, which was a traceback."
    def init(address, **options): raise Exception('The current node timed out during startup. This could happen because some of the raylet failed.')
    ray = ModuleType('ray')
    ray.__spec__, ray.init, ray.is_initialized = ModuleSpec('ray', None), init, lambda: False
    monkeypatch.setitem(sys.modules, 'ray', ray)
    monkeypatch.delenv('RAY_agent_register_timeout_ms', raising=False)
    with pytest.raises(TeacherError, match='cannot be started: The current node timed out.*start it by hand .ray start --head'), RayEngine(1).connected(): pass
    with pytest.raises(ConnectionError, match='start it by hand'): list(RayMap(1)(len, [[1]]))
    with pytest.raises(TeacherError, match="at 'auto' cannot be joined.*`ray status`"), RayEngine(1, 'auto').connected(): pass
    assert int(os.environ['RAY_agent_register_timeout_ms']) > 30_000


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 30))
def test_shares_fit_and_are_the_largest(machines, actors):
    def holds(share): return sum((cpus + 1e-9)//share for cpus in machines) >= actors
    share = cpu_share(machines, actors)
    whole = [size for size in range(1, 13) if holds(size)]
    assert share == max(whole) if whole else 0 < share < 1 and holds(share)
    assert actor_share([{'CPU': cpus} for cpus in machines], actors) == {'num_cpus': share}


def test_a_graphics_card_is_shared_and_a_server_takes_none():
    machines = [{'CPU': 16, 'GPU': 1}, {'CPU': 16, 'GPU': 1}]
    assert actor_share(machines, 3) == {'num_cpus': 1, 'num_gpus': .5} and actor_share(machines, 1)['num_gpus'] == 1
    assert actor_share(machines, 3, chat=True) == {'num_cpus': .1}
