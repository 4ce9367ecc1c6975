"The doctor says what is wrong and what to do, of servers of every kind and of broken installations, and shows no key."
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_server import FaultServer
from plain_server import PlainServer
from synthlab.cli import doctor, runs
from synthlab.cli.doctor import Check, check_server
from synthlab.cli.main import main

ROOT = Path(__file__).parents[2]
KEY = 'sk-planted/4711-0815'
# Looks that take no time; the others are made in the notebook, and in the clean environment of tests/test_packaging.py.
QUICK = tuple(look for look in doctor._LOOKS if look[0] in ('python', 'current folder', 'offline'))


def states(checks): return {check.name: check.state for check in checks}
def advice(checks): return ' '.join(check.advice for check in checks if check.state != 'ok')


# ---- servers

def test_a_healthy_server_gets_five_times_ok():
    with PlainServer() as server: checks = check_server(server.url)
    assert states(checks) == dict.fromkeys(('server', 'model', 'usage counts', 'logprobs', 'json schema'), 'ok')
    assert 'owl-1' in checks[0].found and 'A wren has two legs.' in checks[1].found and '15 tokens read, 6 written' in checks[2].found
    assert len(server.asked) == 4                                      # the list, and three questions


@pytest.mark.parametrize('lacks, name, said', [
    ({'schema': False}, 'json schema', 'response_format is not supported'),
    ({'schema': None}, 'json schema', 'not kept'),
    ({'logprobs': False}, 'logprobs', 'several votes a row'),
    ({'usage': False}, 'usage counts', 'how many tokens'),
    ({'models': None}, 'server', 'lists no models (404)')], ids=['refuses schemas', 'ignores schemas', 'no logprobs', 'no counts', 'no list'])
def test_what_a_server_lacks_is_a_warning_and_the_rest_is_looked_at(lacks, name, said):
    with PlainServer(**lacks) as server: checks = check_server(server.url, 'owl-1')
    assert states(checks) == dict.fromkeys(('server', 'model', 'usage counts', 'logprobs', 'json schema'), 'ok') | {name: 'warn'}
    assert said in next(check.found for check in checks if check.name == name)


def test_a_wrong_key_is_told_without_the_key(monkeypatch):
    monkeypatch.setenv('MY_KEY', KEY)
    with PlainServer(key='another') as server: checks = check_server(server.url, 'owl-1', 'MY_KEY')
    assert states(checks) == {'server': 'fail'} and 'MY_KEY' in advice(checks) and '4711' not in str(checks)
    assert server.asked == [('/v1/models', f'Bearer {KEY}')]


def test_a_key_that_comes_back_is_not_shown(monkeypatch):
    monkeypatch.setenv('MY_KEY', KEY)
    with PlainServer(quotes=True, models=('owl-1', 'wren')) as server: checks = check_server(server.url, 'owl-1', 'MY_KEY')
    assert '[key]' in checks[0].found and '[key]' in checks[1].found and '4711' not in str(checks)


def test_a_key_that_no_header_can_carry_is_told(monkeypatch):
    monkeypatch.setenv('MY_KEY', 'sk-planted\n4711')
    checks = check_server('http://127.0.0.1:9/v1', 'owl-1', 'MY_KEY')
    assert states(checks) == {'server': 'fail'} and 'a line break at place 11' in checks[0].found and '4711' not in str(checks)


def test_a_wrong_model_gets_the_nearest_name():
    with PlainServer(models=('owl-1', 'wren-7b')) as server: checks = check_server(server.url, 'wren7b')
    assert states(checks) == {'server': 'ok', 'model': 'fail'} and "did you mean 'wren-7b'?" in checks[1].found
    with PlainServer(models=None) as server: checks = check_server(server.url, 'wren7b')
    assert states(checks) == {'server': 'warn', 'model': 'fail'} and 'does not exist' in checks[1].found and 'Error' not in checks[1].found


def test_without_a_name_the_only_model_is_asked_and_no_other():
    with PlainServer(models=('owl-1', 'wren-7b')) as server: checks = check_server(server.url)
    assert states(checks) == {'server': 'ok', 'model': 'warn'} and '--teacher MODEL' in advice(checks) and len(server.asked) == 1


def test_an_address_without_v1_is_found_and_the_key_stays_where_it_was_sent(monkeypatch):
    monkeypatch.setenv('MY_KEY', KEY)
    for key in (None, KEY):
        with PlainServer(key=key) as server: checks = check_server(server.address, 'owl-1', 'MY_KEY')
        assert states(checks) == {'server': 'fail'} and f'give --base-url {server.url}' == checks[0].advice
        assert server.asked[1] == ('/v1/models', 'Bearer none')


def test_a_web_page_nobody_and_what_is_no_address_are_told():
    with PlainServer(page=True) as server: assert 'text/html' in check_server(server.url, 'owl-1')[0].found
    assert 'nobody listens there' in check_server(server.url, 'owl-1')[0].found      # it is closed now
    with PlainServer() as server: assert 'does not speak TLS' in check_server(server.url.replace('http:', 'https:'))[0].found
    for wrong in ('localhost:8000', 'http://me:hunter2@localhost/v1'):
        [check] = check_server(wrong)
        assert check.state == 'fail' and 'base_url must' in check.found and 'hunter2' not in check.found


@pytest.mark.parametrize('kind, state, said', [('500', 'fail', '500'), ('malformed', 'fail', 'no JSON'), ('babble', 'fail', 'failed'), ('refusal', 'warn', 'refused'), ('empty', 'warn', 'empty'),
                                               ('401', 'fail', 'key was refused'), ('quota', 'fail', 'no money left'), ('redirect', 'fail', 'has moved')])
def test_a_model_that_does_not_answer_is_asked_nothing_more(kind, state, said):
    with FaultServer(script=lambda question, n: kind) as server: checks = check_server(server.url, 'owl-1')
    assert states(checks) == {'server': 'warn', 'model': state} and said in checks[1].found
    assert server.stats()['received'] == 1


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, '_ANSWER_TIME', .3)
    start = time.monotonic()
    with FaultServer(script=lambda question, n: '429 after', retry_after='60') as server: checks = check_server(server.url, 'owl-1')
    assert states(checks)['model'] == 'fail' and 'no answer within 0.3 s' in checks[1].found and time.monotonic() - start < 20


def test_what_a_server_says_cannot_move_the_cursor(monkeypatch, capsys):
    monkeypatch.setattr(doctor, '_LOOKS', ())
    with PlainServer(models=('\x1b[2Jowl', '[red]wren')) as server: assert doctor.examine(server.url) == 0
    assert '\x1b' not in (said := capsys.readouterr().out) and '[red]wren' in said


# ---- the command

def test_the_table_lines_up_and_says_states_in_words(monkeypatch, capsys):
    monkeypatch.setattr(doctor, '_LOOKS', QUICK)
    monkeypatch.setenv('COLUMNS', '80')
    with PlainServer(schema=False) as server: assert main(['doctor', '--base-url', server.url]) == 0
    *lines, empty, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and {line[:6].strip() for line in lines} == {'ok', 'warn', ''} and not empty
    assert all(line[23] == ' ' and (line[24] != ' ' or line[:27].isspace()) for line in lines) and ' 1 to know, 0 that must be mended.' in last


def test_exit_status_and_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, '_LOOKS', QUICK)
    assert main('doctor --json'.split()) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told['ok'] and not said.err and all(set(check) == {'name', 'state', 'found', 'advice'} for check in told['checks'])
    assert main('doctor --json --base-url http://127.0.0.1:9/v1'.split()) == 1
    assert not json.loads(capsys.readouterr().out)['ok']


def test_long_work_is_told_on_standard_error_and_ctrl_c_ends_it(monkeypatch, capsys):
    def slow(): time.sleep(.2); return Check('owl', 'ok', 'awake')
    def stopped(): raise KeyboardInterrupt
    told = doctor._told
    monkeypatch.setattr(doctor, '_told', lambda what: told(what, .02))
    monkeypatch.setattr(doctor, '_LOOKS', (('owl', 'wake the owl', slow, ''), ('wren', 'stop', stopped, '')))
    assert main(['doctor']) == 130
    said = capsys.readouterr()
    assert '... wake the owl\n' in said.err and said.err.endswith('Stopped.\n') and 'awake' in said.out


def test_the_cache_is_the_one_of_the_embedder(monkeypatch, tmp_path):
    for folder in ('', str(tmp_path)):
        monkeypatch.setenv('SYNTHLAB_CACHE', folder)
        assert runs.kept_embedder()._store.path.parent == doctor.cache_folder()


# ---- broken installations

BLOCKED = 'numpy pydantic jinja2 typer rich tqdm tomli_w filelock torch transformers datasets sentence_transformers sklearn scipy seaborn accelerate aiohttp huggingface_hub pyarrow datasketch'.split()
RUN = """
import os, sys
for name in os.environ['BLOCKED'].split(): sys.modules[name] = None
from synthlab.cli.start import start
sys.exit(start())
"""


def broken(*words, blocked=BLOCKED, **environment):
    "The command in a Python where these packages cannot be imported."
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'BLOCKED': ' '.join(blocked), 'COLUMNS': '80'} | environment
    return subprocess.run([sys.executable, '-c', RUN, *words], env=environment, capture_output=True, encoding='utf-8')


def test_the_doctor_finds_every_package_that_is_broken():
    done = broken('doctor', '--json', '--base-url', 'http://127.0.0.1:9/v1')
    checks = [Check(**check) for check in json.loads(done.stdout)['checks']]
    assert done.returncode == 1 and not done.stderr
    told = {check.found.split()[0] for check in checks if check.name == 'package'}
    assert {name.replace('_', '-') for name in told} >= {{'sklearn': 'scikit-learn'}.get(name, name.replace('_', '-')) for name in BLOCKED}
    assert all('force-reinstall' in check.advice for check in checks if check.name == 'package')
    found = states(checks)
    assert [found[name] for name in ('pocket', 'embedder', 'gpu', 'server', 'current folder')] == ['fail'] * 4 + ['ok']


def test_a_package_that_breaks_in_the_middle_is_a_finding_in_the_table(tmp_path):
    (tmp_path/'torch').mkdir()
    (tmp_path/'torch'/'__init__.py').write_text("print('noise')\nraise OSError('libcudart.so.13: cannot open shared object file')\n")
    done = broken('doctor', blocked=[name for name in BLOCKED if name not in ('torch', 'typer', 'rich')], PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}')
    assert done.returncode == 1 and 'Traceback' not in done.stdout + done.stderr and 'noise' not in done.stdout
    assert 'FAIL  package           torch' in done.stdout and 'libcudart.so.13' in done.stdout


def test_other_commands_say_in_one_line_that_they_cannot_start():
    done = broken('tasks', blocked=['numpy'])
    assert done.returncode == 1 and not done.stdout and done.stderr.count('\n') == 1
    assert 'numpy' in done.stderr and done.stderr.endswith('synthlab doctor\n')
    assert 'usage: synthlab doctor' in broken('doctor', '--help', blocked=['numpy']).stdout
