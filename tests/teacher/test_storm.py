"Thousands of calls to a server of which three in ten replies are faults: nothing lost, nothing asked twice, and no longer than the faults take."
import json
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthlab.decode.loop import Sampling
from synthlab.store.calls import CallStore
from synthlab.teacher.asking import answers
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Request, outcome

SERVER = Path(__file__).parents[1]/'tools'/'fault_server.py'


def memory():
    "Memory of this process, in MB."
    status = Path('/proc/self/status')
    if not status.exists(): pytest.skip('the memory of a process is read from /proc')
    return int(re.search(r'VmRSS:\s+(\d+)', status.read_text())[1])/1024


def ask(teacher, n, calls, word):
    "Ask n questions; how each ended, the seconds that it took, and the memory after a tenth and at the end."
    start, ended, begun = time.monotonic(), [], 0.
    for place, answer, _ in answers(teacher, (Request([{'role': 'user', 'content': f'Write {word}, number {n}.'}], Sampling(max_new_tokens=64)) for n in range(n)), calls):
        ended.append((place, outcome(answer), answer.attempts))
        if len(ended) == n//10: begun = memory()
    return ended, time.monotonic() - start, (begun, memory())


@contextmanager
def serving(*options):
    "A fault server as a process of its own; its address."
    with subprocess.Popen([sys.executable, SERVER, *map(str, options)], stdout=subprocess.PIPE, text=True) as server:
        try: yield server.stdout.readline().strip()
        finally: server.kill()


def weather_report(n, folder, delay, timeout, concurrency):
    "Ask n questions in a storm, and as many in calm weather; what was seen."
    options = {'concurrency': concurrency, 'timeout': timeout}
    with serving('--faults', .3, '--delay', delay, '--seed', 3) as url, CallStore(folder/'calls.db') as calls, ChatTeacher('owl', url, **options) as teacher:
        ended, seconds, used = ask(teacher, n, calls, 'a news item')
        stats = json.load(urllib.request.urlopen(f'{url}/stats'))
        limits, stored = [limit for _, limit, _ in teacher.throttle.samples], len(calls)
    with serving('--delay', delay) as url, CallStore(folder/'calm.db') as calls, ChatTeacher('owl', url, **options) as teacher: _, calm, _ = ask(teacher, n, calls, 'a news item')
    second_half = limits[len(limits)//2:]
    found = {'seconds': seconds, 'calm': calm, 'ideal': n*delay/concurrency, 'memory': used, 'stored': stored, 'level': sum(second_half)/len(second_half), 'last': limits[-1]}
    print(found, {name: count for name, count in stats.items() if name != 'answers'})
    return found | {'stats': stats, 'ended': ended, 'concurrency': concurrency}


def check(found, n, most):
    "Everything accounted for, nothing asked after its answer, the level near its ceiling, and no more time than so often the ideal."
    stats, (places, ends, attempts) = found['stats'], zip(*found['ended'])
    assert sorted(places) == list(range(n)) and found['stored'] == stats['questions'] == n
    assert set(ends) == {'ok', 'refused', 'filtered', 'truncated', 'empty'}
    assert stats['most_answers'] == 1 and sum(attempts) == stats['received'] > 1.15*n
    # The server notices a moment later that a caller has gone.
    assert stats['peak'] <= 1.2*found['concurrency'] and found['level'] > .6*found['concurrency']
    assert found['seconds'] < most*found['calm']


@pytest.mark.long
def test_hundreds_of_calls_in_a_storm(tmp_path):
    "The same number without faults, on the same machine, is the measure: a loaded machine takes longer for both."
    check(weather_report(600, tmp_path, delay=.2, timeout=1.5, concurrency=32), 600, most=5.)


@pytest.mark.long
def test_ten_thousand_calls_in_a_storm(tmp_path):
    found = weather_report(10_000, tmp_path, delay=.1, timeout=3., concurrency=64)
    check(found, 10_000, most=3.)
    begun, ended = found['memory']
    assert ended < begun + 100
