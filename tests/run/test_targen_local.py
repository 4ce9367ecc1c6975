"All ten SuperGLUE tasks with a real model, in this process and behind a server: however weak its prose, every row obeys its schema and its validators."
import json
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from synthlab.run.targen import TarGEN
from synthlab.tasks.strategy import Job, InstanceSeed
from synthlab.tasks.superglue import FEATURES, official_rows
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.chat import ChatTeacher
from local_server import LocalServer


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    "The tiny Llama of the tests, allowed longer texts than it has seen."
    source = Path(os.environ.get('SYNTHLAB_MODELS', 'missing'))/'stories260K'
    if not source.is_dir(): pytest.skip('SYNTHLAB_MODELS does not hold stories260K')
    copy = tmp_path_factory.mktemp('model')/'stories260K'
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    path = copy/'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'max_position_embeddings': 8192}))
    return CausalTeacher(str(copy), max_rows=16)


# Texts written at most for two rows: one round, or the further ones that balance asks for. AXg's come in pairs.
# Written in `make test`: one text, two texts, a passage with a question.
FEW = ('cb', 'copa', 'boolq')
ROUNDS = [pytest.param(1, id='one round'), pytest.param(2, id='rounds', marks=pytest.mark.long)]


def write(teacher, name, rounds):
    "A few rows of a task, and what each step has brought."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        maker = TarGEN(teacher, name, contexts=1, seeds_per_call=2, retries=1)
        return maker, maker.generate(2, candidates=4 if name == 'axg' else 2*rounds)


def look(maker, written, name):
    "Every row has ended, and every accepted one is what it should be."
    assert sum(written.counts.values()) == len(written.rows) > 0
    for row in written.accepted:
        seed = InstanceSeed(json.loads(row['seed_text']), row['context'] or '')
        job = Job(row['group'], row['label_target'], seed, row['attributes'] or {})
        assert maker.strategy.fault(job, row['fields']) == '' and row['label'] in maker.task.label_names
        assert not any(value in ('', None) for value in row['fields'].values())
    assert len(official_rows(written.accepted, name)) == len(written.accepted)
    print(f'{name:8}', {step: f"{found['kept']} of {found['asked']} in {found['calls']} calls {dict(list(found['lost'].items())[:3])}" for step, found in written.steps.items()})


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('name', [pytest.param(name, marks=() if name in FEW else pytest.mark.long) for name in FEATURES])
def test_every_row_of_a_local_model_obeys(teacher, name, rounds): look(*write(teacher, name, rounds), name)


@pytest.fixture(scope='module')
def served(teacher):
    "Several tasks written at once by the same model behind a server on loopback, which answers them together."
    def one(name, rounds):
        with ChatTeacher(f'{name} {rounds}', server.url, native_schema=True, whole_schema=True, timeout=120) as chat:
            chat.tokenizer = teacher.tokenizer                 # its tokens are single letters, which a server does not tell
            return write(chat, name, rounds)
    written = {}
    def of(name, rounds):
        together = [other for other in FEATURES if (other in FEW) == (name in FEW)]
        if (name, rounds) not in written: written.update({(other, rounds): pool.submit(one, other, rounds) for other in together})
        return written[name, rounds].result()
    with LocalServer(teacher) as server, ThreadPoolExecutor(len(FEATURES)) as pool: yield server, of


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('name', [pytest.param(name, marks=() if name in FEW else pytest.mark.long) for name in FEATURES])
def test_the_same_over_a_server(served, name, rounds):
    server, of = served
    maker, written = of(name, rounds)
    look(maker, written, name)
    assert server.asked[f'{name} {rounds}'] == sum(written.calls.values()) > 0
