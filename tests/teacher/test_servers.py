"A key goes only to an address, and from a variable, that the user has named on this machine."
import json
import tomllib

import pytest
import tomli_w
from fault_server import FaultServer
from synthlab.cli.main import main
from synthlab.run.produce import produce, replay
from synthlab.store.runs import open_run, read_rows
from synthlab.teacher.servers import named_servers, remember_server, servers_file


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    "A user with two keys who has named nothing yet."
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path/'config'))
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-of-the-user')
    monkeypatch.setenv('CLOUD_SECRET', 'secret-of-the-cloud')
    monkeypatch.delenv('OPENAI_BASE_URL', raising=False)


def begun(out, server):
    "A run that was begun with this server and stopped by its limit."
    return main(['generate', 'ag_news', '--recipe', 'fewgen', '--shots', '1', '--n', '8', '--base-url', server.url, '--teacher', 'owl', '--max-calls', '4', '--out', str(out)])


def tampered(out, **chat):
    "The recipe of the run with other options of the server, as somebody else may have written it."
    recipe = tomllib.loads((out/'recipe.toml').read_text())
    if where := chat.pop('base_url', None): recipe['teacher']['base_url'] = where
    recipe['machine']['chat'] |= chat
    recipe['machine']['limits'] = {}
    (out/'recipe.toml').write_text(tomli_w.dumps(recipe))


def keys(server): return {head.get('authorization') for head in server.headers}


def test_ones_own_run_goes_on_with_one_command(tmp_path, capsys):
    out = tmp_path/'run'
    with FaultServer(seed=3) as server:
        begun(out, server)
        assert named_servers() == [(server.url, 'OPENAI_API_KEY')] and 'sk-of' not in servers_file().read_text()
        assert main(['resume', str(out), '--max-calls', '50']) == 0, capsys.readouterr().err
        assert keys(server) == {'Bearer sk-of-the-user'}


@pytest.mark.parametrize('chat', [{'address': True}, {'key_variable': 'CLOUD_SECRET'}, {'address': True, 'key_variable': 'CLOUD_SECRET'}, {'base_url': True}])
def test_a_foreign_run_sends_no_key(tmp_path, capsys, chat):
    out = tmp_path/'run'
    with FaultServer(seed=3) as server, FaultServer(seed=3) as thief:
        begun(out, server)
        tampered(out, **{name: thief.url if value is True else value for name, value in chat.items()})
        before = len(server.headers)
        assert main(['resume', str(out)]) == 2
        said = capsys.readouterr().err
        assert 'the recipe asks to send the key in' in said and '--base-url and --key-variable' in said.replace('\n', ' ')
        assert len(server.headers) == before and not thief.headers
        row = next(read_rows(out))
        with open_run(out) as run: recipe = run.recipe
        with pytest.raises(ValueError, match='asks to send the key'): produce(recipe, out)
        with pytest.raises(ValueError, match='asks to send the key'): replay(out, row['id'], fresh=True)
        assert not thief.headers


def test_a_foreign_run_can_be_looked_at_without_a_key(tmp_path):
    out = tmp_path/'run'
    with FaultServer(seed=3) as server:
        begun(out, server)
        servers_file().unlink()
        row = next(read_rows(out))
        assert replay(out, row['id']).same


def test_what_this_command_names_is_trusted(tmp_path):
    out = tmp_path/'run'
    with FaultServer(seed=3) as server:
        begun(out, server)
        servers_file().unlink()
        tampered(out, key_variable='CLOUD_SECRET')
        assert main(['resume', str(out), '--base-url', server.url]) == 2                    # this variable was never named
        assert main(['resume', str(out), '--base-url', server.url, '--key-variable', 'OPENAI_API_KEY']) == 0
        assert keys(server) == {'Bearer sk-of-the-user'}


def test_without_a_key_nothing_is_asked_of_the_user(tmp_path, monkeypatch):
    out = tmp_path/'run'
    monkeypatch.delenv('OPENAI_API_KEY')
    with FaultServer(seed=3) as server:
        begun(out, server)
        assert not servers_file().exists()
        assert main(['resume', str(out), '--max-calls', '50']) == 0 and keys(server) == {'Bearer none'}


@pytest.mark.parametrize('content', ['', 'null', '{"a": 1}', '[1, ["a"], null]'])
def test_a_damaged_file_names_nothing(content):
    servers_file().parent.mkdir(parents=True)
    servers_file().write_text(content)
    assert named_servers() == []
    remember_server('http://localhost:1/v1/', 'OPENAI_API_KEY')
    assert named_servers() == [('http://localhost:1/v1', 'OPENAI_API_KEY')] and json.loads(servers_file().read_text())


def test_a_file_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path/'config').write_text('no folder')
    remember_server('http://localhost:1/v1', 'OPENAI_API_KEY')
    assert named_servers() == []
