"Batches: the same rows as single calls, nothing submitted twice whatever ends the process, and exact accounts."
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from batch_server import BatchServer
from synthlab.cli import runs
from synthlab.cli.main import app, main
from synthlab.decode.loop import Sampling
from synthlab.run.engine import ThreadEngine
from synthlab.run.produce import estimate, make_config, make_teacher, produce, replay
from synthlab.run.recipe import Recipe
from synthlab.store.calls import CallStore
from synthlab.store.runs import Run, RunError, open_run, read_counts, read_recipe, read_rows, read_status
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.batch import BatchTeacher, Clock, GoneError, RefusedError
from synthlab.teacher.budget import Budget, Prices
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Request
from typer.testing import CliRunner

FRESH = multiprocessing.get_context('forkserver')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]/'tools'), os.environ.get('PYTHONPATH')]))
FRESH.set_forkserver_preload(['warm'])
PRICES = {'owl': {'prompt': 2., 'completion': 8.}}
QUICK = {'poll': [.01, .05]}


def recipe_for(server, n=24, stages=None, batch=True, **machine):
    chat = {'batch': True, **QUICK, **machine.pop('chat', {})} if batch else {'concurrency': 8}
    machine = {'chat': chat, 'prices': PRICES, **machine}
    teacher = {'teacher': {'kind': 'chat', 'name': 'owl', 'base_url': server.url}, 'machine': machine}
    return make_config(stages or Recipe.fewgen(shots=1), load_task('ag_news'), make_teacher(teacher), n, machine=machine)


def session(recipe, out, retry_failed=False):
    return produce(recipe, out, make_teacher(recipe), watch=lambda groups, *_: groups, retry_failed=retry_failed)


def command(words, said):
    "The command line in a process of its own; what it says goes into a file."
    os.environ['COLUMNS'] = '400'
    with open(said, 'w') as file:
        for number in (1, 2): os.dup2(file.fileno(), number)
        app(words)


def plain_rows(out): return list(read_rows(out, None)), read_counts(out)


def killed(recipe, out, until):
    "A session that is killed as soon as `until()` is true."
    process = FRESH.Process(target=session, args=(recipe, out))
    process.start()
    deadline = time.monotonic() + 60
    while not until() and process.is_alive() and time.monotonic() < deadline: time.sleep(.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def asked(n, **options): return [Request([{'role': 'user', 'content': f'Bird {i}?'}], Sampling(max_new_tokens=20), seed=i, **options) for i in range(n)]


def owl(server, **options): return BatchTeacher('owl', server.url, **QUICK | options)


@pytest.mark.filterwarnings('ignore')
class TestRuns:
    @pytest.fixture(scope='class')
    def whole(self, tmp_path_factory):
        "Rows of single calls, with which those of batches are compared."
        out = tmp_path_factory.mktemp('whole')/'run'
        with BatchServer() as server: done = session(recipe_for(server, batch=False), out)
        return plain_rows(out), done.usage

    def test_the_rows_are_those_of_single_calls_at_half_the_price(self, tmp_path, whole):
        rows, usage = whole
        with BatchServer(takes=.05) as server: done = session(recipe_for(server), tmp_path/'run')
        assert plain_rows(tmp_path/'run') == rows and len(server.orders) == 1 and server.submitted.total() == 24
        assert done.usage.cost == pytest.approx(usage.cost/2) and done.usage.tokens == usage.tokens and done.usage.calls == 24
        machine = read_recipe(tmp_path/'run')['machine']
        assert machine['chat']['batch'] is True and machine['batch_price'] == .5

    def test_killed_after_the_order_and_before_its_id_is_known(self, tmp_path, whole):
        with BatchServer(hold=2.) as server:
            recipe = recipe_for(server)
            killed(recipe, tmp_path/'run', lambda: server.orders)
            told = read_status(tmp_path/'run')['batches']
            assert [(batch['id'], batch['requests']) for batch in told] == [(None, 24)]
            done = session(recipe, tmp_path/'run')
        assert len(server.orders) == 1 and max(server.submitted.values()) == 1
        assert plain_rows(tmp_path/'run') == whole[0] and done.lost.calls == 0
        assert done.usage.calls == 24 and done.usage.cost == pytest.approx(whole[1].cost/2)

    def test_killed_while_it_waits(self, tmp_path, whole):
        with BatchServer(stuck=True) as server:
            recipe = recipe_for(server)
            for _ in range(2): killed(recipe, tmp_path/'run', lambda before=server.looks.total(): server.looks.total() > before + 1)
            assert read_status(tmp_path/'run')['batches'][0]['id'] == 'batch_001' and read_status(tmp_path/'run')['lost']['calls'] == 0
            server.finish()
            done = session(recipe, tmp_path/'run')
        assert len(server.orders) == 1 and plain_rows(tmp_path/'run') == whole[0]
        assert done.usage.cost == pytest.approx(whole[1].cost/2) and done.lost.calls == 0 and not read_status(tmp_path/'run')['batches']

    def test_killed_before_the_order(self, tmp_path, whole):
        "An upload is no order: the batch is submitted by the next process."
        with BatchServer() as server:
            recipe, taken = recipe_for(server), server.taken
            async def slow(method, parts, *rest):
                found = await taken(method, parts, *rest)
                if parts == ['files']: time.sleep(.3)
                return found
            server.taken = slow
            killed(recipe, tmp_path/'run', lambda: server.files)
            server.taken = taken
            assert not server.orders
            session(recipe, tmp_path/'run')
        assert len(server.orders) == 1 and plain_rows(tmp_path/'run') == whole[0]

    @pytest.mark.parametrize('kept', [True, False])
    def test_stopped_while_answers_are_taken(self, tmp_path, whole, kept):
        "The rest is stored at once, or comes with the next session where that fails; each counts once."
        with BatchServer() as server:
            recipe, update, seen = recipe_for(server), CallStore.update, []
            def failing(calls, entries):
                seen.append(entries)
                if len(seen) == 8: raise KeyboardInterrupt
                if len(seen) > 8 and not kept: raise OSError('no room')
                update(calls, entries)
            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(CallStore, 'update', failing)
                session(recipe, tmp_path/'run')
            told = read_status(tmp_path/'run')
            assert (told['calls']['calls'], len(told['batches'])) == ((24, 0) if kept else (7, 1)) and not told['lost']['calls']
            done = session(recipe, tmp_path/'run')
        assert len(server.orders) == 1 and plain_rows(tmp_path/'run') == whole[0]
        assert done.usage.calls == 24 and done.usage.cost == pytest.approx(whole[1].cost/2)

    def test_expired_requests_go_into_the_next_batch(self, tmp_path, whole):
        with BatchServer(expires=lambda body, order: body['seed'] % 3 == 0 and order == 1) as server: done = session(recipe_for(server), tmp_path/'run')
        expired = sum(count == 2 for count in server.submitted.values())
        assert len(server.orders) == 2 and server.submitted.total() == 24 + expired and 0 < expired < 24
        assert plain_rows(tmp_path/'run') == whole[0] and done.usage.cost == pytest.approx(whole[1].cost/2)

    def test_what_always_expires_is_a_failed_call(self, tmp_path):
        with BatchServer(expires=lambda body, order: body['seed'] % 3 == 0 and order < 3) as server:
            recipe = recipe_for(server, chat={'attempts': 2})
            done = session(recipe, tmp_path/'run')
            reasons = done.counts['failed']
            assert reasons and all('given up after 2 batches, the last: batch_expired' in reason for reason in reasons)
            again = session(recipe, tmp_path/'run', retry_failed=True)
        assert not again.counts['failed'] and sum(again.counts['accepted'].values()) == 24 and again.usage.calls >= 24

    def test_sessions_of_both_kinds_have_exact_accounts(self, tmp_path):
        "A batch under a limit, then single calls: each at its own price."
        with BatchServer() as server:
            session(recipe_for(server, limits={'max_calls': 10}), tmp_path/'run')
            direct = recipe_for(server, batch=False)
            done = session(direct, tmp_path/'run')
            assert session(direct, tmp_path/'run').usage.cost == pytest.approx(done.usage.cost)
        with open_run(tmp_path/'run') as run: entries = list(run.calls.values())
        cost = [(2*entry['prompt_tokens'] + 8*entry['completion_tokens'])/1e6 for entry in entries]
        assert len(cost) == 24 and done.usage.cost == pytest.approx(sum(cost[:10])/2 + sum(cost[10:]))
        assert server.submitted.total() == 10 and server.received.total() == 14

    def test_a_batch_is_taken_in_before_the_run_goes_on_directly(self, tmp_path, whole):
        with BatchServer(stuck=True) as server:
            killed(recipe_for(server), tmp_path/'run', lambda: server.looks)
            server.finish()
            done = session(recipe_for(server, batch=False), tmp_path/'run')
        assert len(server.orders) == 1 and not server.received and plain_rows(tmp_path/'run') == whole[0]
        assert done.usage.cost == pytest.approx(whole[1].cost/2)

    def test_corrections_are_a_round_of_their_own(self, tmp_path):
        stages = Recipe.fewgen(shots=1).having(correct='self-correction')
        with BatchServer() as server: session(recipe_for(server, 12, stages), tmp_path/'batch')
        with BatchServer() as other: session(recipe_for(other, 12, stages, batch=False), tmp_path/'single')
        assert plain_rows(tmp_path/'batch') == plain_rows(tmp_path/'single')
        assert 2 <= len(server.orders) <= 6 and max(server.submitted.values()) == 1

    @pytest.mark.parametrize('limits', [{'max_calls': 17}, {'max_tokens': 20_000}, {'max_cost': .03}])
    def test_limits_hold(self, tmp_path, limits):
        with BatchServer() as server:
            done = session(recipe_for(server, 200, limits=limits), tmp_path/'run')
            waits = [order['metadata'] for order in server.orders]
        used = {'max_calls': done.usage.calls, 'max_tokens': done.usage.tokens, 'max_cost': done.usage.cost}
        (name, limit), = limits.items()
        assert done.stopped.startswith(name) and .5*limit < used[name] <= limit and len(waits) == len({wait['synthlab'] for wait in waits})
        assert done.usage.calls == server.submitted.total()

    def test_an_estimate_is_at_half_the_price(self, tmp_path):
        with BatchServer() as server: found = [estimate(recipe_for(server, batch=batch)).cost for batch in (True, False)]
        assert found[0] == pytest.approx(found[1]/2)

    def test_a_row_is_replayed_directly(self, tmp_path):
        with BatchServer() as server:
            session(recipe_for(server, 4), tmp_path/'run')
            assert replay(tmp_path/'run', next(read_rows(tmp_path/'run'))['id'], fresh=True).same
        assert len(server.orders) == 1 and server.received.total() == 1

    def test_the_key_is_nowhere(self, tmp_path, monkeypatch):
        key = 'sk-planted-0123456789abcdef'
        monkeypatch.setenv('OPENAI_API_KEY', key)
        with BatchServer(echo=True) as server: session(recipe_for(server, 8), tmp_path/'run')
        assert any(key in head.get('authorization', '') for head in server.headers)
        assert not any(key in str(order) for order in server.orders) and not any(key.encode() in server.files[order['input_file_id']] for order in server.orders)
        for path in tmp_path.rglob('*'): assert not path.is_file() or key.encode() not in path.read_bytes(), path

    def test_a_lost_batch_is_given_up_on_request(self, tmp_path):
        with BatchServer(stuck=True) as server:
            recipe = recipe_for(server, 8)
            killed(recipe, tmp_path/'run', lambda: server.looks)
            server.batches.clear()
            server.stuck = False
            with pytest.raises(TeacherError, match='does not know the batch batch_001 of 8 requests .*--retry-failed gives it up'): session(recipe, tmp_path/'run')
            assert 'does not know' in read_status(tmp_path/'run')['trouble']
            done = session(recipe, tmp_path/'run', retry_failed=True)
        assert done.lost.calls == 8 and done.usage.calls == 8 and len(server.orders) == 2

    def test_a_run_with_a_batch_away_is_not_overwritten_nor_asked_by_another(self, tmp_path):
        with BatchServer(stuck=True) as server:
            recipe = recipe_for(server, 8)
            killed(recipe, tmp_path/'run', lambda: server.looks)
            with pytest.raises(RunError, match='has 8 requests of .* in a batch'): produce(recipe, tmp_path/'run', make_teacher(recipe), overwrite=True)
            with pytest.raises(RunError, match='was asked for something else'): session(recipe | {'seed': 9}, tmp_path/'run')
            with pytest.warns(UserWarning, match='their answers are not taken over'), Run(tmp_path/'fork', recipe, fork=tmp_path/'run'): pass
            assert len(server.orders) == 1

    def test_both_teachers_ask_alike(self, tmp_path):
        with BatchServer() as server:
            recipe = recipe_for(server)
            with pytest.raises(ValueError, match='asks directly, and the recipe in batches'): produce(recipe, tmp_path/'run', ChatTeacher('owl', server.url))

    def test_the_command_line(self, tmp_path):
        "Ctrl-C while the batch is away, status, and resume."
        words = ['generate', 'ag_news', '--recipe', 'fewgen', '--n', '4', '--teacher', 'owl', '--batch', '--out', str(tmp_path/'run')]
        with BatchServer(stuck=True) as server:
            process = FRESH.Process(target=command, args=([*words, '--base-url', server.url], tmp_path/'said'))
            process.start()
            deadline = time.monotonic() + 60
            while not server.looks and time.monotonic() < deadline: time.sleep(.02)
            time.sleep(.2)
            os.kill(process.pid, signal.SIGINT)
            process.join()
            said = (tmp_path/'said').read_text()
            assert process.exitcode == 130 and 'has a batch of 4 requests' in said and '(batch_001). It goes on there.' in said, said
            status = CliRunner().invoke(app, ['status', str(tmp_path/'run')]).output
            server.finish()
            done = CliRunner().invoke(app, ['resume', str(tmp_path/'run')]).output
        assert 'Take its answers, and go on: synthlab resume' in ' '.join(status.split())
        assert len(server.orders) == 1 and '4 texts were written: 4 accepted' in ' '.join(done.split()), done

    def test_a_run_in_batches_is_refused_to_actors_before_anything_is_done(self, tmp_path, whole, capsys):
        "In one line that names the way out, in Python before there is a folder, and the way out is one."
        with BatchServer() as server:
            with pytest.raises(ValueError, match='not divided among actors'): produce(recipe := recipe_for(server), tmp_path/'none', make_teacher(recipe), engine=ThreadEngine(2))
            session(recipe_for(server, limits={'max_calls': 10}), tmp_path/'run')
            with patch.object(runs, 'engine_of', lambda *_: ThreadEngine(2)):
                assert main(resume := ['resume', str(tmp_path/'run'), '--ray', 'local', '--max-calls', '100']) == 2
                assert '(--ray) or the batches (--batch; on resume --no-batch)' in ' '.join(capsys.readouterr().err.split())
                assert len(server.orders) == 1 and not server.received and not (tmp_path/'none').exists()
                assert main([*resume, '--no-batch']) == 0
        assert plain_rows(tmp_path/'run') == whole[0] and server.received.total() == 14


class TestTeacher:
    def test_answers_are_those_of_single_calls(self):
        with BatchServer() as server:
            with owl(server) as teacher: batch = teacher.complete(asked(30))
            with ChatTeacher('owl', server.url) as teacher: single = teacher.complete(asked(30))
        assert [reply.text for reply in batch] == [reply.text for reply in single] and len(server.orders) == 1

    def test_a_lost_reply_to_an_order_is_not_ordered_again(self):
        with BatchServer(lose=1) as server, owl(server) as teacher: replies = teacher.complete(asked(5))
        assert all(reply.ok for reply in replies) and len(server.orders) == 1

    def test_the_batch_is_found_on_a_later_page(self, tmp_path):
        with BatchServer(stuck=True, page=3) as server:
            with CallStore(tmp_path/'calls.db') as calls:
                def stop(seconds): raise KeyboardInterrupt
                with pytest.raises(KeyboardInterrupt) as stopped: owl(server, clock=Clock(sleep=stop)).complete(asked(5), calls)
                assert 'goes on at' in stopped.value.__notes__[0]
                calls.batches[1] |= {'id': None}
                for n in range(8): owl(server, clock=Clock(sleep=stop)).service.create('file-0', f'other-{n}-0', 0.)
                server.finish()
                assert owl(server).recover(calls) == 5 and len(calls) == 5
        assert server.paths['GET batches'] >= 3

    def test_a_refused_form_is_learnt_once(self, tmp_path):
        with BatchServer(refuses=['max_tokens']) as server, CallStore(tmp_path/'calls.db') as calls:
            with owl(server) as teacher: assert all(reply.ok for reply in teacher.complete(asked(20), calls))
            assert len(server.orders) == 2
            with owl(server) as later: assert all(reply.ok for reply in later.complete(asked(25), calls))
            assert len(server.orders) == 3 and server.submitted.total() == 45

    def test_a_server_without_batches(self):
        with BatchServer(batches=False) as server, owl(server) as teacher:
            with pytest.raises(RefusedError, match='has no Batch interface .it answered 404.*ChatTeacher'): teacher.complete(asked(2))
        with pytest.raises(TeacherError, match='has not answered for 0.05 s'): BatchTeacher('owl', 'http://127.0.0.1:9/v1', patience=.05, **QUICK).complete(asked(2))

    def test_a_batch_that_is_turned_down(self):
        with BatchServer(most_waiting=10) as server:
            with owl(server) as teacher, pytest.raises(RefusedError, match='turned down the batch batch_001: Enqueued token limit reached.*--batch-requests'): teacher.complete(asked(25))
            with owl(server, most_requests=10) as teacher: assert all(reply.ok for reply in teacher.complete(asked(25)))
        assert [order['metadata']['synthlab_batch'] for order in server.orders] == ['1', '1', '2', '3']

    def test_a_cancelled_batch_keeps_what_was_answered(self, tmp_path):
        with BatchServer(stuck=True) as server, CallStore(tmp_path/'calls.db') as calls, owl(server) as teacher:
            def cancel():
                while not server.looks: time.sleep(.01)
                server.end(server.batches['batch_001'], 1, 'cancelled')
                server.stuck = False
            thread = threading.Thread(target=cancel)
            thread.start()
            with pytest.raises(RefusedError, match='was cancelled at .* with 5 requests unanswered'): teacher.complete(asked(10), calls)
            thread.join()
            assert len(calls) == 5 and all(reply.ok for reply in teacher.complete(asked(10), calls))
            assert [len(server.lines(batch)) for batch in server.batches.values()] == [10, 5]

    def test_a_wrong_key_ends_the_job_and_not_the_rows(self, tmp_path):
        kinds = {'now': '401'}
        with BatchServer(script=lambda question, n: kinds['now']) as server, CallStore(tmp_path/'calls.db') as calls, owl(server) as teacher:
            with pytest.raises(RefusedError, match='401.*the key was refused'): teacher.complete(asked(3), calls)
            kinds['now'] = 'ok'
            assert not len(calls) and all(reply.ok for reply in teacher.complete(asked(3), calls))

    @pytest.mark.parametrize('kind, outcome', [('refusal', 'refused'), ('length', 'truncated'), ('filter 400', 'filtered'), ('empty', 'empty'), ('400', 'failed'), ('no usage', 'ok')])
    def test_each_kind_of_answer(self, kind, outcome):
        budget = Budget(max_cost=1., prices=Prices(PRICES, share=.5), model='owl')
        with BatchServer(script=lambda question, n: kind if 'Bird 2' in question else 'ok') as server, owl(server) as teacher: replies = teacher.complete(asked(4), budget=budget)
        assert [reply.outcome for reply in replies] == ['ok', 'ok', outcome, 'ok']
        assert budget.spent.unknown_tokens == (kind in ('no usage', 'filter 400')) and budget.spent.calls + budget.spent.failed == 4

    @pytest.mark.parametrize('kind', ['500', '503', '429', 'envelope'])
    def test_a_passing_fault_is_asked_again(self, kind):
        with BatchServer(script=lambda question, n: kind if n == 0 and 'Bird 2' in question else 'ok') as server, owl(server) as teacher: replies = teacher.complete(asked(4))
        assert all(reply.ok for reply in replies) and len(server.orders) == 2 and server.submitted.total() == 5
        assert replies[2].answers[0].attempts == 2

    def test_all_refused_in_the_same_way_ends_the_job(self):
        with BatchServer(script=lambda *_: '400') as server, owl(server) as teacher, pytest.raises(TeacherError, match='turned down the first 16 calls'): teacher.complete(asked(20))

    def test_bytes_limit_a_batch(self):
        with BatchServer() as server, owl(server, most_bytes=1000) as teacher: assert all(reply.ok for reply in teacher.complete(asked(9)))
        assert len(server.orders) > 2 and max(len(server.files[order['input_file_id']]) for order in server.orders) <= 1000

    def test_equal_requests_are_submitted_once(self):
        with BatchServer() as server, owl(server) as teacher: replies = teacher.complete(asked(3) + asked(3))
        assert server.submitted.total() == 3 and [reply.text for reply in replies[:3]] == [reply.text for reply in replies[3:]]

    def test_the_pauses_grow(self):
        "A day in no time: the clock is the test's."
        now = [0.]
        def sleep(seconds):
            now[0] += seconds
            if now[0] > 86_000: server.finish()
        with BatchServer(stuck=True) as server, BatchTeacher('owl', server.url, clock=Clock(lambda: now[0], sleep)) as teacher:
            with pytest.warns(UserWarning, match='Ctrl-C leaves it there'): assert all(reply.ok for reply in teacher.complete(asked(3)))
        assert server.looks.total() < 310

    @pytest.mark.parametrize('options', [{'most_requests': 0}, {'most_requests': 60_000}, {'most_bytes': 3e9}, {'poll': [3]}, {'poll': (0, 1)}, {'poll': (5, 1)}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match=next(iter(options))): BatchTeacher('owl', 'http://localhost:1/v1', **options)

    def test_an_id_that_is_gone(self, tmp_path):
        with BatchServer() as server, CallStore(tmp_path/'calls.db') as calls, owl(server) as teacher:
            teacher.complete(asked(2), calls)
            calls.batches[1] |= {'ended': '', 'id': 'batch_999/../x', 'keys': {'a': [9, 9, 1, 0]}}
            with pytest.raises(GoneError, match='does not know the batch'): teacher.recover(calls)
