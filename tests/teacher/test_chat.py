"A chat teacher against a server that does everything wrong: nothing is lost, nothing asked twice after success, and no key gets out."
import asyncio
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import urllib.request
from pathlib import Path

import pytest
from fault_server import ANSWERS, PASSING, REFUSALS, FaultServer
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from synthlab.decode.loop import Sampling
from synthlab.teacher.asking import TeacherError, hearing_waits
from synthlab.teacher.chat import ChatTeacher, chat_body, error_said, read_completion, redact, server_address
from synthlab.teacher.requests import Answer, Request, outcome

ROOT = Path(__file__).parents[2]
KEY = 'sk-planted/0815+4711'
FAST = {'pause': .005, 'timeout': 5.}


class Bird(BaseModel):
    name: str
    legs: int


def ask_for(text, **kind): return Request([{'role': 'user', 'content': text}], Sampling(max_new_tokens=16), **kind)


def asked(server, *requests, **options):
    "The answers of a fresh teacher, by place."
    with ChatTeacher('owl', server.url, **(FAST | options)) as teacher: return dict(teacher.ask(requests))


def one(server, request=ask_for('Name a bird.'), **options): return asked(server, request, **options)[0]


def script(*kinds):
    "The n-th answer to every question; the last goes on."
    return lambda question, n: kinds[min(n, len(kinds) - 1)]


# -- each fault alone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', PASSING)
def test_a_fault_that_passes_is_not_seen(kind):
    with FaultServer(script=script(kind, 'ok')) as server:
        answer = one(server, timeout=.5)
        stats = server.stats()
    assert outcome(answer) == 'ok' and answer.attempts == 2
    assert stats['kinds'] == {kind: 1, 'ok': 1} and stats['most_answers'] == 1


BUSY = [kind for kind in PASSING if kind[:3] in ('429', '503')]


@pytest.mark.parametrize('kind', [kind for kind in PASSING if kind not in BUSY])
def test_a_fault_that_stays_is_given_up_where_others_are_answered(kind):
    def says(question, n): return kind if question == 'poison' else 'ok'
    def birds():
        for n in range(4000): yield ask_for('poison' if n == 9 else f'bird {n}')
    with FaultServer(script=says, huge=10_500_000, delay=.002) as server, ChatTeacher('owl', server.url, attempts=2, timeout=.3, pause=.005, concurrency=8) as teacher:
        answer = next(answer for place, answer in teacher.ask(birds()) if place == 9)
    assert outcome(answer) == 'failed' and 2 <= answer.attempts < 6 and 'given up after 2 failed attempts' in answer.error
    assert len(answer.error) < 600


@pytest.mark.parametrize('kind', ['500', 'envelope', 'cut', 'truncated'])
def test_a_last_call_that_stays_broken_is_given_up_without_a_wait(kind):
    "Nobody else asks: three calls and fewer that are broken in themselves are no outage."
    with FaultServer(script=lambda question, n: kind if 'poison' in question else 'ok') as server:
        answers = asked(server, *(ask_for(f'bird {n}') for n in range(9)), *(ask_for(f'poison {n}') for n in range(3)), attempts=2)
    assert [n for n, answer in sorted(answers.items()) if answer.error] == [9, 10, 11]


@pytest.mark.parametrize('kind, said', [('huge', 'larger than 10 MB'), ('bomb', 'larger than 10 MB'), ('timeout', 'within 0.5 s'), ('drip', 'within 0.5 s'), ('html', 'text/html'),
                                        ('cut', 'not completed'), ('drop', 'disconnected'), ('truncated', 'no JSON'), ('envelope', 'without a message')])
def test_an_error_says_what_happened(kind, said):
    with FaultServer(script=script(kind)) as server:
        try: error = one(server, timeout=.5, attempts=1, patience=0).error
        except TeacherError as stop: error = str(stop)
    assert said in error


@pytest.mark.parametrize('kind', ['429', '429 after', '429 date', '503 after'])
def test_too_many_requests_is_no_failed_attempt(kind):
    with FaultServer(script=script(*[kind]*8, 'ok'), wait='0.01') as server:
        answer = one(server, attempts=1, pause=.001) if kind != '429 date' else one(FaultServer(script=script(kind, 'ok')).__enter__(), attempts=1)
    assert outcome(answer) == 'ok' and answer.attempts == (9 if kind != '429 date' else 2)


def test_retry_after_is_honoured():
    with FaultServer(script=script('429 after', 'ok'), wait='0.7') as server:
        one(server)
        assert .7 <= server.times[1] - server.times[0] < 3


def test_patience_ends():
    with FaultServer(script=script('429 after'), wait='0.05') as server, pytest.raises(TeacherError, match=r'has answered no call for 0.2\d* s \(patience: 0.2 s\), the last: 429.*the same command goes on'):
        one(server, patience=.2)
    with FaultServer(script=lambda question, n: '429 after' if 'poor' in question else 'ok', wait='0.01') as server:
        answers = asked(server, ask_for('poor bird'), *(ask_for(f'bird {n}') for n in range(200)), patience=.2, concurrency=4)
    assert outcome(answers.pop(0)) == 'failed' and {outcome(a) for a in answers.values()} == {'ok'}


@pytest.mark.parametrize('kind, expected', [('refusal', 'refused'), ('filter', 'filtered'), ('filter 400', 'filtered'), ('empty', 'empty'), ('length', 'truncated'), ('schema', 'ok'),
                                            ('duplicate', 'ok'), ('no usage', 'ok'), ('parts', 'ok'), ('packed', 'ok')])
def test_an_answer_of_another_kind_is_an_answer(kind, expected):
    with FaultServer(script=script(kind)) as server:
        answer = one(server)
        assert server.stats()['received'] == 1
    assert outcome(answer) == expected and not answer.error
    if kind == 'refusal': assert answer.refusal == 'I cannot help with that.'
    if kind in ('filter', 'length'): assert answer.text                             # the raw text is kept
    if kind == 'no usage': assert (answer.prompt_tokens, answer.completion_tokens) == (None, None)
    if kind == 'parts': assert answer.text == 'An owl.'


@pytest.mark.parametrize('kind', ['twice', 'babble', 'cut', 'truncated'])
def test_a_connection_that_was_spoilt_spoils_no_other_answer(kind):
    "A second copy of an answer must not be taken for the answer to the next question."
    with FaultServer() as server: expected = asked(server, *(ask_for(f'bird {n}') for n in range(40)))
    with FaultServer(script=lambda question, n: kind if n == 0 and int(question.split()[1]) % 2 else 'ok') as server:
        found = asked(server, *(ask_for(f'bird {n}') for n in range(40)), concurrency=1)
    assert {n: a.text for n, a in found.items()} == {n: a.text for n, a in expected.items()}


@pytest.mark.parametrize('kind, said', [('401', 'set the environment variable SOME_KEY'), ('402', 'no money left'), ('403', 'forbidden'), ('404', "the model 'owl' or the path is unknown"),
                                        ('redirect', 'it has moved to http://127.0.0.1:9/v2'), ('quota', 'no money left')])
def test_hopeless_ends_at_once(kind, said):
    assert set(REFUSALS) >= {kind}
    with FaultServer(script=script(kind)) as server, pytest.raises(TeacherError, match=said):
        asked(server, *(ask_for(f'bird {n}') for n in range(200)), key_variable='SOME_KEY')
    assert server.stats()['received'] <= 32


def test_one_call_that_is_forbidden_ends_nothing_once_others_were_not():
    with FaultServer(script=lambda question, n: '403' if '150' in question else 'ok') as server: answers = asked(server, *(ask_for(f'bird {n}') for n in range(200)))
    assert [n for n, a in answers.items() if a.error] == [150]


def test_what_was_finished_before_the_end_is_yielded():
    with FaultServer(script=lambda question, n: '401' if '30' in question else 'ok') as server, ChatTeacher('owl', server.url, concurrency=1, **FAST) as teacher:
        found = []
        with pytest.raises(TeacherError):
            for place, _ in teacher.ask(ask_for(f'bird {n}') for n in range(100)): found.append(place)
        assert sorted(found) == list(range(30)) and server.stats()['received'] <= 32        # the next was on its way


def test_bad_request_is_one_failed_call():
    with FaultServer(script=lambda question, n: '400' if '3' in question else 'ok') as server: answers = asked(server, *(ask_for(f'bird {n}') for n in range(10)))
    assert [n for n, a in sorted(answers.items()) if a.error] == [3] and answers[3].error == '400: this is a 400' and answers[3].attempts == 1


def test_a_server_that_takes_no_call_ends_the_job():
    with FaultServer(script=lambda question, n: '400') as server, ChatTeacher('owl', server.url) as teacher:
        with pytest.raises(TeacherError, match='turned down the first 16 calls and has answered none; the last time it said 400: this is a 400'):
            for _ in teacher.ask(ask_for(f'bird {n}') for n in range(500)): pass
        assert server.stats()['received'] <= 100


def test_nobody_there():
    with FaultServer() as server: url = server.url
    start = time.monotonic()
    with pytest.raises(TeacherError, match='does not answer'), ChatTeacher('owl', url, attempts=3, pause=.01) as teacher: list(teacher.ask([ask_for('bird')]*50))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize('kind', ['timeout', 'drop'])
def test_a_server_that_only_keeps_silent_ends_the_job(kind):
    with FaultServer(script=script(kind)) as server, pytest.raises(TeacherError, match='does not answer'):
        asked(server, *(ask_for(f'bird {n}') for n in range(100)), attempts=2, timeout=.1, patience=.04)
    assert server.stats()['received'] < 150


def test_a_server_that_goes_away_ends_the_job():
    server = FaultServer().__enter__()
    def birds():
        for n in range(2000):
            if n == 100: server.__exit__()
            yield ask_for(f'bird {n}')
    with pytest.raises(TeacherError, match='has answered no call for'), ChatTeacher('owl', server.url, attempts=2, pause=.01, concurrency=4, patience=.5) as teacher:
        answers = [answer for _, answer in teacher.ask(birds())]
        pytest.fail(f'{len(answers)} answers')


# -- an outage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['429', '503', '502', '500', 'envelope', 'drop', 'error 200'])
@pytest.mark.parametrize('concurrency', [2, 32])
def test_an_outage_is_waited_out(kind, concurrency):
    "Calls are given up after five attempts, which takes a twentieth of the outage here: none may be spent on it."
    down = []
    def says(question, n):
        if len(server.times) == 100 and not down: down.append(time.monotonic() + 1.)
        return kind if down and time.monotonic() < down[0] else 'ok'
    with FaultServer(script=says, delay=.002) as server:
        answers = asked(server, *(ask_for(f'bird {n}') for n in range(300)), concurrency=concurrency)
        received = server.stats()['received']
    ends = [outcome(answer) for answer in answers.values()]
    # Of a fault that may be its call's, the first ones are taken for that where hardly anybody asks.
    assert ends.count('failed') <= (3 if concurrency == 2 and kind in ('500', 'envelope', 'error 200') else 0) and len(ends) == 300
    assert received < 300 + 5*64 + 200


def test_a_wait_is_told_at_once_and_its_end_too():
    heard, down = [], []
    def says(question, n):
        if len(server.times) == 30 and not down: down.append(time.monotonic() + 4.)
        return '429' if down and time.monotonic() < down[0] else 'ok'
    with FaultServer(script=says) as server, hearing_waits(lambda text: heard.append((time.monotonic(), text))):
        answers = asked(server, *(ask_for(f'bird {n}') for n in range(60)), patience=77.)
    assert {outcome(answer) for answer in answers.values()} == {'ok'}
    (begun, text), *rest = heard
    assert 'answers no call since' in text and '429: this is a 429' in text and 'patience: 77 s' in text
    assert begun < down[0] and [text for _, text in rest] in ([], [''])


def test_a_long_pause_that_the_server_asks_for_is_told():
    heard = []
    with FaultServer(script=script('429 after', 'ok'), wait='4') as server, hearing_waits(heard.append): one(server)
    assert 'answers no call since' in heard[0] and '429' in heard[0]


@pytest.mark.parametrize('wait', ['1e400', '-5', 'nan', 'inf'])
def test_a_senseless_date_to_come_back_is_none(wait):
    start = time.monotonic()
    with FaultServer(script=script('429 after', 'ok'), wait=wait) as server: assert outcome(one(server)) == 'ok'
    assert time.monotonic() - start < 5


@pytest.mark.skipif(not hasattr(signal, 'SIGSTOP'), reason='a process is suspended by a signal')
def test_a_suspended_process_asks_nothing_again():
    "Answers came while it slept; its time-out ran off meanwhile."
    code = """
        from synthlab.teacher.chat import ChatTeacher
        from synthlab.teacher.requests import Request
        teacher = ChatTeacher('owl', {url!r}, timeout=1.)
        print('asking', flush=True)
        print([answer.attempts for _, answer in teacher.ask(Request([{{'role': 'user', 'content': f'bird {{n}}'}}]) for n in range(8))])
    """
    with FaultServer(delay=.6) as server:
        process = run(code.format(url=server.url))
        assert process.stdout.readline() == 'asking\n'
        while server.stats()['received'] < 8: time.sleep(.01)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        out, errors = process.communicate(timeout=60)
        assert server.stats()['received'] == 8
    assert out == '[1, 1, 1, 1, 1, 1, 1, 1]\n' and not errors


# -- dialects and shapes -----------------------------------------------------------------------------------------------------


def test_a_dialect_is_learnt_once():
    with FaultServer(refuses=['max_tokens', 'temperature']) as server, ChatTeacher('owl', server.url, concurrency=1, **FAST) as teacher:
        answers = dict(teacher.ask(ask_for(f'bird {n}') for n in range(20)))
        assert {outcome(a) for a in answers.values()} == {'ok'}
        assert server.stats()['kinds']['400'] <= 4 and server.stats()['kinds']['ok'] == 20          # two calls were written before the first came back
        body = server.bodies[-1]
        assert body['max_completion_tokens'] == 16 and not body.keys() & {'max_tokens', 'temperature'}
        warm = Request([{'role': 'user', 'content': 'bird'}], Sampling(temperature=.7))
        assert 'not supported' in dict(teacher.ask([warm]))[0].error                # what was asked for is not dropped in silence


def test_many_at_once_learn_a_dialect_too():
    with FaultServer(refuses=['max_tokens'], delay=.01) as server: answers = asked(server, *(ask_for(f'bird {n}') for n in range(200)))
    assert {outcome(a) for a in answers.values()} == {'ok'} and server.stats()['kinds']['ok'] == 200


@pytest.mark.parametrize('refuses, native', [([], True), (['response_format'], False)])
def test_shapes_are_left_to_the_server_where_it_can(refuses, native):
    with FaultServer(refuses=refuses, delay=.01) as server, ChatTeacher('owl', server.url, **FAST) as teacher:
        replies = teacher.complete([ask_for(f'bird {n}', schema=Bird) for n in range(40)])
        assert {reply.outcome for reply in replies} == {'ok'} and all(isinstance(reply.value, Bird) for reply in replies)
        assert server.stats()['kinds'] == ({'ok': 40} if native else {'400': 1, 'ok': 40})          # the first went alone
        assert ('response_format' in server.bodies[-1]) == native


def test_a_server_that_ignores_the_shape_is_found_out():
    with FaultServer(script=lambda question, n: 'duplicate' if 'JSON' not in question else 'ok', delay=.01) as server:
        with ChatTeacher('owl', server.url, **FAST) as teacher:
            replies = teacher.complete([ask_for(f'bird {n}', schema=Bird) for n in range(40)])
            assert {reply.outcome for reply in replies} == {'ok'}
            assert sum('response_format' in body for body in server.bodies) == 1
            assert server.stats()['kinds'] == {'duplicate': 1, 'ok': 40}


@pytest.mark.parametrize('native', [True, False])
def test_the_user_may_say_who_sees_to_the_shape(native):
    with FaultServer() as server:
        asked(server, ask_for('bird', schema=Bird), native_schema=native)
        assert ('response_format' in server.bodies[0]) == native
    with FaultServer(refuses=['response_format']) as server: assert bool(one(server, ask_for('bird', schema=Bird), native_schema=native).error) == native


def test_the_body_says_all():
    request = Request([{'role': 'system', 'content': 'Be short.'}, {'role': 'user', 'content': 'Bird?'}], Sampling(9, .5, .8, 40), seed=3)
    assert chat_body('owl', request, extra={'min_p': .1}) == {'model': 'owl', 'messages': [dict(m) for m in request.messages], 'max_tokens': 9, 'temperature': .5, 'top_p': .8, 'top_k': 40,
                                                              'seed': 3, 'min_p': .1}
    with FaultServer() as server:
        one(server, request, extra_body={'min_p': .1})
        assert server.bodies[0] == chat_body('owl', request, extra={'min_p': .1})


def test_bounds_of_tokens_are_bounds():
    with ChatTeacher('owl', 'http://localhost:1/v1') as teacher:
        for request in (ask_for('Zwölf Boxkämpfer 🥊'*50), ask_for('bird', schema=Bird)):
            sent = chat_body('owl', request)['messages'][-1]['content']
            assert teacher.token_bound(request) >= len(sent.encode()) + 20 and 0 < teacher.token_guess(request) < teacher.token_bound(request)


# -- a storm -----------------------------------------------------------------------------------------------------------------


def test_a_thousand_requests_through_a_storm():
    "30 % faults of every kind, then calm: all accounted for, nothing asked twice after success, the limit back at its ceiling."
    with FaultServer(seed=1, faults=.3, delay=.005, wait='0.02', huge=10_200_000) as server, ChatTeacher('owl', server.url, concurrency=32, timeout=3., pause=.01) as teacher:
        answers = list(teacher.ask(ask_for(f'bird {n}') for n in range(1000)))
        stats = server.stats()
        server.faults = 0.
        calm = list(teacher.ask(ask_for(f'calm bird {n}') for n in range(600)))
        limit = teacher.throttle.limit
    faulty = {kind: n for kind, n in stats['kinds'].items() if kind != 'ok'}
    assert len(faulty) > 20 and sum(faulty.values()) > 300
    assert sorted(place for place, _ in answers) == list(range(1000))
    assert stats['most_answers'] == 1 and stats['answered'] == stats['questions'] == 1000
    ends = [outcome(answer) for _, answer in answers]
    assert 'failed' not in ends and {'ok', 'refused', 'filtered', 'truncated', 'empty'} == set(ends)
    assert sum(answer.attempts for _, answer in answers) == stats['received']
    assert len(calm) == 600 and limit == 32


def test_a_server_with_few_places_is_used_and_not_flooded():
    with FaultServer(capacity=6, delay=.02) as server, ChatTeacher('owl', server.url, concurrency=64, **FAST) as teacher:
        answers = list(teacher.ask(ask_for(f'bird {n}') for n in range(400)))
        stats = server.stats()
    assert len(answers) == 400 and {outcome(a) for _, a in answers} == {'ok'} and stats['most_answers'] == 1
    assert stats['kinds']['429'] < 120 and stats['peak'] <= 17


def test_caps_are_kept():
    with FaultServer() as server, ChatTeacher('owl', server.url, requests_per_minute=1200, **FAST) as teacher:
        list(teacher.ask(ask_for(f'bird {n}') for n in range(40)))
        times = sorted(server.times)
    assert times[-1] - times[0] > 38*.05 and all(b - a > .01 for a, b in zip(times, times[4:]))


# -- the caller --------------------------------------------------------------------------------------------------------------


def test_requests_are_pulled_as_there_is_room():
    pulled = 0
    def birds():
        nonlocal pulled
        for n in range(10_000):
            pulled += 1
            yield ask_for(f'bird {n}')
    with FaultServer() as server, ChatTeacher('owl', server.url, concurrency=4, **FAST) as teacher:
        stream = teacher.ask(birds())
        for n in range(50): next(stream)
        assert pulled <= 50 + 3*8
        stream.close()
        time.sleep(.2)
        received = server.stats()['received']
        time.sleep(.2)
        assert server.stats()['received'] == received <= 50 + 3*8


def test_none_asks_to_finish_something_first():
    given, seen = [], []
    def birds():
        for request in (None, ask_for('a'), ask_for('b'), None, ask_for('c'), None, None):
            given.append((request and request.messages[0]['content'], len(seen)))
            yield request
    with FaultServer(delay=.02) as server, ChatTeacher('owl', server.url, **FAST) as teacher:
        for place, answer in teacher.ask(birds()): seen.append(place)
    assert sorted(seen) == [1, 2, 4]
    assert dict(given)['c'] >= 1                                                    # asked after one of the first two was finished


def test_an_error_of_the_caller_comes_through():
    def birds():
        yield ask_for('a')
        raise ZeroDivisionError
    with FaultServer(delay=.05) as server, ChatTeacher('owl', server.url, **FAST) as teacher, pytest.raises(ZeroDivisionError): list(teacher.ask(birds()))


def test_closing_cancels_what_is_under_way():
    with FaultServer(script=script('timeout')) as server:
        with ChatTeacher('owl', server.url) as teacher:
            stream = teacher.ask(ask_for(f'bird {n}') for n in range(10))
            threading.Timer(.5, teacher.close).start()
            start = time.monotonic()
            with pytest.raises(TeacherError, match='closed while it was asked'): next(stream)
            assert time.monotonic() - start < 10
            server.script = script('ok')
            assert outcome(dict(teacher.ask([ask_for('bird')]))[0]) == 'ok'         # a closed teacher can be asked again


def test_inside_a_running_event_loop():
    async def notebook(teacher): return teacher.complete([ask_for('bird')])
    with FaultServer() as server, ChatTeacher('owl', server.url, **FAST) as teacher: assert asyncio.run(notebook(teacher))[0].ok


def test_two_jobs_at_once():
    with FaultServer(delay=.01) as server, ChatTeacher('owl', server.url, **FAST) as teacher:
        one, other = teacher.ask(ask_for(f'bird {n}') for n in range(50)), teacher.ask(ask_for(f'fish {n}') for n in range(50))
        found = list(zip(one, other))
    assert len(found) == 50


def run(code, **environment):
    code = 'import sys; sys.path[:0] = [%r, %r]\n' % (str(ROOT), str(ROOT/'tests'/'tools')) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


ASKING = """
    from synthlab.teacher.chat import ChatTeacher
    from synthlab.teacher.requests import Request
    teacher = ChatTeacher('owl', {url!r})
    stream = teacher.ask(Request([{{'role': 'user', 'content': f'bird {{n}}'}}]) for n in range(1000))
"""


def test_ctrl_c_ends_the_process():
    with FaultServer(script=script('timeout')) as server:
        process = run(ASKING.format(url=server.url) + "    print('asking', flush=True)\n    next(stream)")
        assert process.stdout.readline() == 'asking\n'
        deadline = time.monotonic() + 60
        while not server.stats()['received'] and time.monotonic() < deadline: time.sleep(.05)
        process.send_signal(signal.SIGINT)
        # On a machine with a load of ten the process takes many seconds to take its modules down.
        _, errors = process.communicate(timeout=30)
    assert process.returncode and 'KeyboardInterrupt' in errors and 'never retrieved' not in errors and 'Unclosed' not in errors


@pytest.mark.parametrize('ending', ['', 'raise SystemExit(3)'])
def test_the_process_ends_though_the_teacher_was_not_closed(ending):
    # Which of the questions is sent first is left to the machine.
    with FaultServer(script=lambda question, n: 'timeout' if server.stats()['received'] > 1 else 'ok') as server:
        process = run(ASKING.format(url=server.url) + f'    next(stream)\n    {ending}')
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (3 if '3' in ending else 0) and not errors


# -- the key -----------------------------------------------------------------------------------------------------------------


def everything(teacher, run):
    "All that can be seen of a job: its answers or its error with the whole traceback, representations, and every log record at the finest level."
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter('%(name)s %(message)s %(args)s'))
    handler.addFilter(lambda record: stream.write(repr(vars(record))) or True)
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler); logger.setLevel(logging.DEBUG)
    try: seen = run()
    except TeacherError as error: seen = [repr(error), ''.join(traceback.TracebackException.from_exception(error, capture_locals=True).format())]
    finally: logger.removeHandler(handler); logger.setLevel(level)
    return '\n'.join([repr(seen), repr(teacher), json.dumps(teacher.identity), repr(vars(teacher)), stream.getvalue()])


@pytest.mark.parametrize('kind', [*PASSING, *ANSWERS, *REFUSALS])
def test_the_key_is_nowhere(kind, monkeypatch, capfd):
    "A server that quotes the key in everything it says."
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    with FaultServer(script=script(kind), echo=True, wait='0.02', huge=10_200_000) as server, ChatTeacher('owl', server.url, timeout=.3, attempts=2, pause=.01, patience=.05) as teacher:
        seen = everything(teacher, lambda: list(teacher.ask([ask_for('bird'), ask_for('bird', schema=Bird)])))
        assert server.headers[0]['authorization'] == f'Bearer {KEY}'                # it was sent, though
    seen += ''.join(capfd.readouterr())
    for spelled in (KEY, KEY.replace('/', '%2F').replace('+', '%2B'), KEY.replace('/', '\\/'), '0815+4711'): assert spelled not in seen
    if kind not in ('timeout', 'drop', 'cut', 'drip', 'babble', 'bomb', 'huge', 'truncated', 'redirect', 'duplicate', 'schema'): assert '[key]' in seen or kind in ('refusal', 'filter', 'empty', 'length', 'no usage', 'parts', 'filter 400', '429', '429 after', '429 date', '503 after')


@pytest.mark.parametrize('kind', ['400', '500', '401', 'malformed', 'html', 'envelope'])
def test_no_piece_of_the_key_is_left_where_a_message_is_cut(kind, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    for before in [*range(20, 80, 6), *range(270, 300, 3)]:
        with FaultServer(script=script(kind), echo=before) as server, ChatTeacher('owl', server.url, attempts=1) as teacher:
            seen = everything(teacher, lambda: list(teacher.ask([ask_for('bird')])))
        assert KEY[:6] not in seen


def test_without_a_key_none_is_sent(monkeypatch):
    monkeypatch.delenv('OPENAI_API_KEY', raising=False)
    with FaultServer() as server:
        one(server)
        assert server.headers[0]['authorization'] == 'Bearer none'
        monkeypatch.setenv('ANOTHER', KEY)
        one(server, key_variable='ANOTHER')
        assert server.headers[1]['authorization'] == f'Bearer {KEY}'


@pytest.mark.parametrize('key, said', [('sk-planted\n0815', 'a line break at place 11'), ('sk-planted\r0815', 'a line break'), ('sk-plantéd0815', 'not plain ASCII at place 9'),
                                       ('sk-\x00planted', 'not plain ASCII')])
def test_a_key_that_no_header_can_carry(key, said, monkeypatch):
    if '\0' in key: monkeypatch.setattr(os, 'environ', {'SOME_KEY': key})
    else: monkeypatch.setenv('SOME_KEY', key)
    with FaultServer() as server, pytest.raises(TeacherError, match=f'the key in the environment variable SOME_KEY has .*{said}') as caught:
        one(server, key_variable='SOME_KEY')
    assert 'planted' not in str(caught.value) and '0815' not in str(caught.value) and not server.stats()['received']


def test_short_keys_are_no_secrets(): assert redact('Do not go: none of it is true', 'none') == 'Do not go: none of it is true'


@pytest.mark.parametrize('url', ['http://me:secret77@host/v1', 'http://host/v1?key=secret77', 'http://host/v1#secret77', 'me:secret77@host/v1', 'ftp://secret77/v1', 'secret77', 'http:///secret77'])
def test_an_address_carries_no_secret(url):
    with pytest.raises(ValueError) as caught: ChatTeacher('owl', url)
    assert 'secret77' not in str(caught.value) and 'base_url' in str(caught.value)


def test_no_address(monkeypatch):
    monkeypatch.delenv('OPENAI_BASE_URL', raising=False)
    with pytest.raises(ValueError, match='set OPENAI_BASE_URL'): ChatTeacher('owl')
    monkeypatch.setenv('OPENAI_BASE_URL', 'http://localhost:8000/v1/')
    assert ChatTeacher('owl').identity == {'name': 'owl', 'revision': None, 'base_url': 'http://localhost:8000/v1'}
    assert server_address(' https://a.b/v1 ') == 'https://a.b/v1'


@pytest.mark.parametrize('options', [{'model': ''}, {'concurrency': 0}, {'timeout': 0}, {'attempts': 0}, {'pause': -1}, {'patience': -1}, {'requests_per_minute': 0}, {'extra_body': {'x': object()}}, {'extra_body': {'x': float('nan')}}, {'extra_body': {'x': '\ud83e'}}])
def test_senseless_options_are_refused(options):
    with pytest.raises(ValueError): ChatTeacher(**({'model': 'owl', 'base_url': 'http://localhost:1/v1'} | options))


# -- reading -----------------------------------------------------------------------------------------------------------------


def test_what_others_would_read_is_read():
    "The official client's own model agrees about an ordinary reply."
    from openai.types.chat import ChatCompletion
    with FaultServer() as server:
        body = {'model': 'owl', 'messages': [{'role': 'user', 'content': 'bird'}]}
        data = urllib.request.urlopen(urllib.request.Request(f'{server.url}/chat/completions', json.dumps(body).encode(), {'Content-Type': 'application/json'})).read()
    theirs, ours = ChatCompletion.model_validate_json(data), read_completion(data)
    assert ours == Answer(theirs.choices[0].message.content, theirs.choices[0].finish_reason, '', theirs.usage.prompt_tokens, theirs.usage.completion_tokens, theirs.model)


def test_the_official_client_sends_the_same(monkeypatch):
    for name, value in (('OPENAI_API_KEY', KEY), ('OPENAI_ORG_ID', 'org-owls'), ('OPENAI_PROJECT_ID', 'proj-nests')): monkeypatch.setenv(name, value)
    request = Request([{'role': 'system', 'content': 'Sei kurz – bitte.'}, {'role': 'user', 'content': 'Käuzchen 🦉?'}], Sampling(9, .5, .8), seed=3)
    with FaultServer() as server, OpenAI(base_url=server.url, max_retries=0) as client:
        answer = one(server, request)
        theirs = client.chat.completions.create(**chat_body('owl', request))
        (ours, official), heads = server.bodies, server.headers
    assert ours == official and answer.text == theirs.choices[0].message.content
    for name in ('authorization', 'content-type', 'content-length', 'openai-organization', 'openai-project', 'host'): assert heads[0][name] == heads[1][name]


# What the official client does otherwise: it repeats where no money is left, and not where a server asks for it by 425; a body that is no answer it hands on, or fails at once.
OFFICIAL = ['429', '429 after', '503', '503 after', '500', '502', '408', 'timeout', 'drop', 'cut', '400', '401', '402', '403', '404', 'filter 400']


def test_the_official_client_repeats_the_same_faults():
    "That of a reply is its status; that of none is a lost connection."
    async def theirs(url):
        async with AsyncOpenAI(base_url=url, api_key='x', max_retries=1, timeout=.5) as client:
            return await asyncio.gather(*(client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': kind}]) for kind in OFFICIAL), return_exceptions=True)
    with FaultServer(script=lambda question, n: question if n == 0 else 'ok', wait='0.01') as server: ends = asyncio.run(theirs(server.url))
    repeats = {kind for kind, end in zip(OFFICIAL, ends) if not isinstance(end, Exception)}
    with FaultServer(script=lambda question, n: 'ok' if n or question == 'bird' else question, wait='0.01') as server:
        def ends_well(kind):
            with ChatTeacher('owl', server.url, pause=.001, timeout=.3) as teacher:
                try: return not list(teacher.ask([ask_for(kind)]))[0][1].error
                except TeacherError: return False
        ours = {kind for kind in OFFICIAL if kind != 'filter 400' and ends_well(kind)}
    assert ours == repeats == set(OFFICIAL[:10])


def test_odd_bodies_raise_nothing_but_value_errors():
    good = json.dumps({'choices': [{'message': {'content': 'wren'}, 'finish_reason': 'stop'}], 'usage': {'prompt_tokens': 1, 'completion_tokens': 1}, 'model': 'owl'}).encode()
    for n in range(len(good)):
        for data in (good[:n], good[:n] + b'\xff' + good[n:], good[:n] + b'null' + good[n:], good[:n] + b'"' + good[n + 1:]):
            try: assert isinstance(read_completion(data).text, str)
            except ValueError: pass
            assert all(isinstance(part, str) for part in error_said(data))
    for value in (None, 1, [], 'x', {}, [None], {'message': 1}, True, 1e400):
        for place in ('choices', 'usage', 'model', 'error'):
            try: json.dumps(read_completion(json.dumps(json.loads(good) | {place: value}).encode()).to_dict()).encode('utf-8')
            except ValueError: pass


@pytest.mark.parametrize('path', ['sk-0123456789abcdefghij', 'v1/hf_AbCdEfGhIjKlMnOp/x', 'v1;key=AIzaSyD0123456789abcdef', 'a/AbC0dEf1GhI2jKl3MnO4pQr5/v1', '%73k-0123456789abcdefghij/v1'])
def test_a_key_in_the_path_is_refused_and_not_repeated(path):
    with pytest.raises(ValueError, match='the path of base_url has a part that looks like a key.*environment variable') as error: ChatTeacher('m', f'https://a.b/{path}')
    with pytest.raises(ValueError, match='looks like a key'): ChatTeacher('m', 'https://a.b/v1', address=f'https://a.b/{path}')
    assert path[-12:] not in str(error.value)


@pytest.mark.parametrize('path', ['v1', 'openai/deployments/gpt-4o-mini-2024-07-18', 'api/v1/accounts/0123456789abcdef0123456789abcdef/ai/v1', 'v1beta/openai', 'skylark-pro-240515/v1',
                                  'v1/projects/my-project-123/locations/us-central1/endpoints/openapi', 'v2/4fzq8w1bn2k7xt/openai/v1', 'api/3f2504e0-4f89-11d3-9a0c-0305e82c3301'])
def test_usual_paths_are_no_keys(path): assert server_address(f'https://a.b/{path}').endswith(path)


def test_of_a_server_that_was_never_there_no_wait_to_the_end_of_patience_is_promised():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))                                             # nobody listens there
        teacher, heard = ChatTeacher('owl', base_url=f'http://127.0.0.1:{taken.getsockname()[1]}/v1'), []
        with hearing_waits(heard.append), pytest.raises(TeacherError, match='is the server running'):
            list(teacher.ask([ask_for(f'bird {n}') for n in range(40)]))
    assert heard and all('asked again a few times, at the latest until' in text for text in heard if text), heard
