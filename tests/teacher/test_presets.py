"Each preset against a stand-in with what that server lacks, and its flags on the command line."
import shlex

import pytest
from fault_server import FaultServer
from plain_server import PlainServer
from pydantic import BaseModel
from synthlab.cli.main import app
from synthlab.decode.loop import Sampling
from synthlab.teacher.presets import SERVERS
from synthlab.teacher.requests import Request
from typer.testing import CliRunner

LACKS = {'vllm': {}, 'llama.cpp': {}, 'ollama': {}, 'openai': {'key': 'sk-none-0123'}}


class Bird(BaseModel):
    name: str


@pytest.mark.parametrize('name', SERVERS)
def test_a_preset_asks(name, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-none-0123')
    with PlainServer(**LACKS[name]) as server, SERVERS[name].teacher('owl-1', server.url) as teacher:
        [reply] = teacher.complete([Request([{'role': 'user', 'content': 'Name a bird.'}], Sampling(max_new_tokens=20))])
    assert reply.ok


@pytest.mark.parametrize('name', SERVERS)
def test_whole_schemas_go_where_they_are_kept_to(name):
    with FaultServer() as server, SERVERS[name].teacher('owl-1', server.url) as teacher:
        assert teacher.complete([Request([{'role': 'user', 'content': 'Name a bird.'}], Sampling(max_new_tokens=20), Bird)])[0].ok
    assert teacher.whole_schema == (name in ('vllm', 'llama.cpp'))


@pytest.mark.parametrize('name', SERVERS)
@pytest.mark.parametrize('batch', [False, True])
def test_flags_are_those_of_the_command(name, batch, monkeypatch):
    "An estimate asks nobody, and refuses options that do not exist or do nothing."
    if batch and not SERVERS[name].batches: pytest.skip('takes no batches')
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-none-0123')
    words = ['generate', 'ag_news', '--recipe', 'fewgen', '--n', '4', '--estimate', *shlex.split(SERVERS[name].flags('owl-1', batch))]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and 'completion tokens' in done.output, done.output


@pytest.mark.parametrize('name', SERVERS)
def test_commands_can_be_pasted(name): assert not SERVERS[name].start or "'my model'" in SERVERS[name].command('my model')
