"A real server, `transformers serve` on loopback, asked by ChatTeacher: what it says is what the model says in this process."
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import BaseModel
from synthlab.decode.loop import Sampling
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Request, outcome
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.import_utils import is_serve_available

pytestmark = pytest.mark.skipif(not is_serve_available(), reason='`transformers serve` needs fastapi and uvicorn')
SERVE = 'import sys; from transformers.cli.transformers import main; sys.exit(main())'
TEMPLATE = '{%- for message in messages %}{{ message["content"] }}\n{%- endfor %}'
OPENINGS = ['Once upon a time', 'The weather', 'A small dog', 'She said that', 'In the morning', 'The news', 'Two friends', 'It was a day']


@pytest.fixture(scope='module', params=['stories260K', 'pocket'])
def folder(request, tmp_path_factory):
    "A copy of a small model, with a chat template."
    source = Path(str(files('synthlab')/'resources'/'pocket')) if request.param == 'pocket' else Path(os.environ.get('SYNTHLAB_MODELS', 'missing'))/'stories260K'
    if not source.is_dir(): pytest.skip('SYNTHLAB_MODELS does not hold stories260K')
    copy = tmp_path_factory.mktemp('model')/request.param
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    (copy/'chat_template.jinja').write_text(TEMPLATE)
    return copy


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def url(folder):
    "The address of the server, once it is ready."
    port, log = free_port(), folder.parent/'serve.log'
    with log.open('wb') as file:
        process = subprocess.Popen([sys.executable, '-c', SERVE, 'serve', str(folder), '--host', '127.0.0.1', '--port', str(port), '--device', 'cpu'], stdout=file, stderr=file,
                                   env=os.environ | {'OMP_NUM_THREADS': '1'})
    try:
        deadline = time.monotonic() + 120
        while True:
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=5).read(); break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline: pytest.fail(f'the server did not start: {log.read_text()[-2000:]}')
                time.sleep(.2)
        yield f'http://127.0.0.1:{port}/v1'
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope='module')
def written(folder):
    "The model's own greedy text after each opening, with counts of tokens read and written."
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    def write(opening):
        prompt = tokenizer.apply_chat_template([{'role': 'user', 'content': opening}], add_generation_prompt=True, return_tensors='pt', return_dict=True)
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=24)[0, prompt['input_ids'].shape[1]:]
        return tokenizer.decode(ids, skip_special_tokens=True), prompt['input_ids'].shape[1], len(ids)
    return {opening: write(opening) for opening in OPENINGS}


def greedy(text, **kind): return Request([{'role': 'user', 'content': text}], Sampling(max_new_tokens=24, temperature=0.), **kind)


def test_says_what_the_model_says(folder, url, written):
    with ChatTeacher(str(folder), url, concurrency=4) as teacher: replies = teacher.complete(map(greedy, OPENINGS))
    for opening, reply in zip(OPENINGS, replies):
        text, read, wrote = written[opening]
        answer, = reply.answers
        assert answer.text.strip() == text.strip() and (answer.prompt_tokens, answer.completion_tokens) == (read, wrote)
        assert reply.outcome == ('truncated' if wrote == 24 and answer.finish_reason == 'length' else 'ok' if text.strip() else 'empty')
        assert answer.attempts == 1 and read <= teacher.token_bound(reply.request)
    assert any(reply.text for reply in replies)


def test_a_store_saves_the_calls(folder, url):
    calls = {}
    with ChatTeacher(str(folder), url) as teacher: first = teacher.complete(map(greedy, OPENINGS), calls)
    with ChatTeacher(str(folder), url) as teacher:
        again = teacher.complete(map(greedy, OPENINGS), calls)
        assert teacher._line is None or not teacher.throttle.samples              # nothing was sent
    assert [reply.text for reply in again] == [reply.text for reply in first] and {reply.cached for reply in again} == {1}


def test_a_shape_that_the_server_ignores_is_asked_for_in_words(folder, url):
    class Bird(BaseModel): name: str
    with ChatTeacher(str(folder), url, concurrency=2) as teacher:
        replies = teacher.complete([greedy(opening, schema=Bird) for opening in OPENINGS[:3]])
        assert set(teacher._native.values()) <= {False}                             # none: no text ended before its limit, so nothing can be told
    assert {reply.outcome for reply in replies} <= {'malformed', 'truncated', 'ok', 'empty'}


def test_what_the_server_does_not_take_is_told(folder, url):
    with ChatTeacher(str(folder), url) as teacher:
        answer, = dict(teacher.ask([Request([{'role': 'user', 'content': 'Once'}], Sampling(8, top_k=3))])).values()
    assert outcome(answer) == 'failed' and 'top_k' in answer.error and answer.attempts == 1
