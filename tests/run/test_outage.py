"A server that is away for a while, and a run: nothing is spent on the outage, and what is waited for is told at once."
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from fault_server import FaultServer
from synthlab.run.produce import make_config, produce
from synthlab.run.recipe import PRESETS
from synthlab.store.runs import read_counts, read_status
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.chat import ChatTeacher
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]


def away(kind, first, seconds):
    "A script of a server that is away for some seconds after so many calls."
    seen, begun = [], []
    def script(question, n):
        seen.append(question)
        if len(seen) > first and not begun: begun.append(time.monotonic())
        return kind if begun and time.monotonic() < begun[0] + seconds else 'ok'
    return script


def asked(server, out, n=100, **options):
    task = load_task('ag_news')
    teacher = ChatTeacher('owl', server.url, **({'pause': .005, 'timeout': 5.} | options))
    with teacher: return produce(make_config(PRESETS['fewgen'](), task, teacher, n), out, teacher)


@pytest.mark.parametrize('kind', ['503', '502', 'envelope'])
def test_an_outage_costs_no_candidate(kind, tmp_path):
    with FaultServer(script=away(kind, 30, 3.5), delay=.002) as server, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        done = asked(server, tmp_path/'run')
        assert server.stats()['most_answers'] == 1
    assert sum(done.counts['accepted'].values()) == 100 and not done.counts['failed'] and not done.shortfall
    assert any('answers no call since' in str(warning.message) for warning in seen)
    assert read_status(tmp_path/'run')['finished'] and not read_status(tmp_path/'run')['waiting']


@pytest.mark.parametrize('kind', ['503', '502', 'envelope', '429'])
@pytest.mark.filterwarnings('ignore:.*answers no call since')
def test_a_longer_outage_leaves_a_run_that_goes_on(kind, tmp_path):
    "Where the server stays away, the run ends with nothing given up, and the same request again asks the rest."
    with FaultServer(script=away(kind, 30, 1e9), delay=.002) as server:
        with pytest.raises(TeacherError, match='the same command goes on where it was'): asked(server, tmp_path/'run', patience=.5)
        status = read_status(tmp_path/'run')
        assert not status['finished'] and not status['failed'] and 'has answered no call for' in status['trouble'] and not status['waiting']
        answered = server.stats()['answered']
        server.script = None
        done = asked(server, tmp_path/'run', patience=20)
        assert sum(done.counts['accepted'].values()) == 100 and not done.counts['failed']
        assert server.stats()['most_answers'] == 1 and server.stats()['answered'] >= 100 and answered >= 25
    assert read_status(tmp_path/'run')['finished']


def test_a_run_with_calls_that_were_given_up_is_not_finished(tmp_path):
    with FaultServer(script=lambda question, n: 'ok' if server.received.total() % 3 else '400') as server, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        task, teacher = load_task('ag_news'), ChatTeacher('owl', server.url)
        config = make_config(PRESETS['fewgen'](), task, teacher, 40, budget=40)
        with teacher: done = produce(config, tmp_path/'run', teacher)
        assert done.shortfall and done.counts['failed'] and not read_status(tmp_path/'run')['finished']
        server.script = None
        with teacher: assert not produce(config, tmp_path/'run', teacher, retry_failed=True).shortfall
        assert read_status(tmp_path/'run')['finished'] and server.stats()['most_answers'] == 1


def command(*words, **environment):
    return subprocess.Popen([sys.executable, '-c', 'import sys; from synthlab.cli.main import main; sys.exit(main())', *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {'PYTHONPATH': str(ROOT)} | environment)


def test_the_terminal_and_status_say_what_is_waited_for(tmp_path):
    from synthlab.cli.main import app
    with FaultServer(script=lambda question, n: '429', delay=.01) as server:
        process = command('generate', 'ag_news', '--recipe', 'fewgen', '--n', 8, '--base-url', server.url, '--teacher', 'owl', '--patience', 6, '--out', tmp_path/'run')
        deadline, told = time.monotonic() + 90, ''
        while 'answers no call since' not in told and process.poll() is None and time.monotonic() < deadline:
            time.sleep(.3)
            if (tmp_path/'run'/'run.db').exists(): told = CliRunner().invoke(app, ['status', str(tmp_path/'run')]).output
        assert re.search(r'Being written by .*answers no call since \d\d:\d\d:\d\d \(429: this is a 429\)\. It is asked again until .*\(patience: 6 s\)', told)
        out, errors = process.communicate(timeout=90)
    assert process.returncode == 2 and 'answers no call since' in errors and 'Traceback' not in errors
    assert 'has answered no call for' in errors and 'the same command goes on' in errors.replace('\n', ' ')
    told = CliRunner().invoke(app, ['status', str(tmp_path/'run')]).output
    assert 'Not finished. The last time it could not go on' in told and f'synthlab resume {tmp_path/"run"}' in told


@pytest.mark.skipif(os.name == 'nt', reason='Ctrl-C is sent as a signal')
@pytest.mark.parametrize('pause', [.01, pytest.param(.15, marks=pytest.mark.long)])
def test_three_quick_interrupts_end_without_a_traceback(pause, tmp_path):
    with FaultServer(delay=.2) as server:
        process = command('generate', 'ag_news', '--recipe', 'fewgen', '--n', 400, '--base-url', server.url, '--teacher', 'owl', '--out', tmp_path/'run')
        while not server.stats()['received'] and process.poll() is None: time.sleep(.05)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in errors and 'KeyboardInterrupt' not in errors
    assert 'Stopp' in errors
    assert read_counts(tmp_path/'run')['candidates'] >= 0


def test_patience_is_for_servers():
    from synthlab.cli.main import app
    found = CliRunner().invoke(app, ['generate', 'ag_news', '--patience', '5', '--out', 'nowhere'])
    assert found.exit_code and '--patience: there is no --base-url' in str(found.exception)
