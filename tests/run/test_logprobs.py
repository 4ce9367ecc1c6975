"Label evidence from a server that shows log-probabilities: one call for each row; votes where it shows none; nothing asked twice."
import json
import random
import re
import time
import warnings
from dataclasses import asdict, replace

import numpy as np
import pytest
from fault_server import FaultServer, digest
from local_server import LocalServer
from scipy.special import log_softmax
from synthlab.correct.choices import Evidence
from synthlab.correct.evidence import centred, label_marks, mark_request, mark_scores, read_marks, vote_scores
from synthlab.decode.sampling import Sampling
from synthlab.run.produce import estimate, make_config, make_teacher, open_run, produce, remember_server
from synthlab.run.recipe import Recipe
from synthlab.store.runs import read_rows
from synthlab.tasks.task import Task, load_task
from synthlab.teacher.budget import Budget
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Answer, Request, call_key, read_reply, request_key
from test_kills import killed, session, stored

SHORT, SST2 = Sampling(16, .95, .9), load_task('sst2')
NAMES = SST2.label_names


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


@pytest.fixture(autouse=True)
def no_key(monkeypatch): monkeypatch.setenv('OPENAI_API_KEY', 'none')


def text_in(body): return json.loads(re.findall(r'(?m)^".*"$', body['messages'][-1]['content'])[-1])


def odds(text): return (len(text) % 7 - 3)/2


def shown(body):
    "Two marks, and other tokens beside them; the log-odds of the second are `odds`."
    second = 1/(1 + np.exp(-odds(text_in(body))))
    return {'1': np.log(.6*(1 - second)), ' 1': np.log(.3*(1 - second)), '2': np.log(.9*second), 'The': np.log(.05), 'I': np.log(.01)}


def is_mark(body): return 'response_format' not in body and 'JSON object' not in str(body['messages'])


def vote(body):
    "A verdict by the length of what is asked about."
    if is_mark(body): return f'1 {digest(body)}'                                                              # so that a stored answer tells its question
    text = json.loads(next(line for line in body['messages'][-1]['content'].splitlines() if line.startswith('{"')))['text']
    return json.dumps({'explanation': digest(body), 'label': NAMES[len(text) % 2]})


def request_to(server, pocket, n=8, policy='weigh', votes=3, task=SST2, **options):
    judge = ChatTeacher('judge', server.url, concurrency=4)
    remember_server(server.url, 'OPENAI_API_KEY')
    return make_config(Recipe.fewgen(shots=1, correct=Evidence(votes=votes, policy=policy)), task, pocket, n, sampling=SHORT, corrector=judge, **options), judge


def made(server, pocket, out, **options):
    request, judge = request_to(server, pocket, **options)
    done = produce(request, out, pocket, corrector=judge)
    with open_run(out) as run: return list(run.rows()), run.facts, done


# ---- scores

def test_scores_are_those_of_the_model_itself(pocket):
    "A real model behind a server, against its own log-probabilities: the label's marks are among the tokens that it shows."
    texts = ['a dull film with a dull ending .', 'one of the best films of the year .']
    with LocalServer(pocket) as server:
        replies = ChatTeacher('pocket', server.url).complete([mark_request(SST2, text) for text in texts], progress=False)
    for text, reply in zip(texts, replies):
        prompt = pocket.render(mark_request(SST2, text).messages, 'Answer:')
        logprobs = pocket.next_logits(pocket.encode([prompt]))[0].log_softmax(-1)
        best = logprobs.topk(20)
        tokens = {}
        for value, token in zip(best.values.tolist(), best.indices.tolist()): tokens.setdefault(pocket.tokenizer.decode([token]).strip().lower(), []).append(value)
        raw = [np.logaddexp.reduce(tokens.get(mark, [best.values.min().item()])) for mark in label_marks(NAMES)]
        np.testing.assert_allclose(mark_scores(reply.answers[0].logprobs, NAMES), log_softmax(raw), atol=1e-4)
        assert len(reply.answers[0].logprobs) == 20


@pytest.mark.parametrize('K', [2, 9, 10, 20])
def test_marks_are_told_apart_and_scores_are_normalised(K):
    rng, names = np.random.default_rng(K), [f'label {k}' for k in range(K)]
    p = rng.dirichlet(np.ones(K))*.9
    pairs = [(f' {mark.lower()}', float(np.log(value))) for mark, value in zip(label_marks(names), p)] + [('so', np.log(1e-6))]
    np.testing.assert_allclose(np.exp(mark_scores(pairs, names)), p/.9, rtol=1e-9)
    fewer = mark_scores([pair for pair in pairs if pair[0] != f' {label_marks(names)[0].lower()}'], names)
    assert np.isclose(np.exp(fewer).sum(), 1) and np.isclose(np.exp(fewer[0]), 1e-6/(p[1:].sum() + 1e-6))


def test_the_question_is_another_call_and_other_calls_keep_their_keys():
    plain, teacher = Request([{'role': 'user', 'content': 'Name a bird.'}]), {'name': 'owl'}
    before = call_key('text', teacher=teacher, messages=[{'role': 'user', 'content': 'Name a bird.'}], schema=None, sampling=asdict(Sampling()), sample=0, seed=None, cue='Answer:')
    assert request_key(plain, teacher) == before != request_key(replace(plain, top_logprobs=20), teacher)
    assert 'logprobs' not in Answer('x').to_dict()


@pytest.mark.parametrize('answer, said', [(Answer('1'), 'ok: no log-prob'), (Answer('no', logprobs=(('Sure', -.1),)), 'ok: no log-prob'), (Answer(error='gone'), 'failed: gone'),
                                          (Answer(refusal='I will not'), 'refused: I will not')])
def test_an_answer_without_marks_has_no_verdict(answer, said):
    found = read_marks(read_reply(mark_request(SST2, 'x'), answer), NAMES)
    assert found.answer is found.logprobs is None and found.explanation.startswith(said)


# ---- runs

def test_each_row_takes_one_call_and_its_probability_follows(pocket, tmp_path):
    with FaultServer(logprobs=shown, answer=vote) as server:
        rows, facts, done = made(server, pocket, tmp_path/'run')
        written = list(read_rows(tmp_path/'run', None))
        asked = server.stats()['received']
    assert len(rows) == 8 and asked == 1 + sum(row['status'] == 'accepted' for row in written)                # one question for all, and one for each row
    scores = log_softmax([[0, odds(row['text'])] for row in rows], 1)
    np.testing.assert_allclose([[told['logprob'] for told in row['sc_logprobs']] for row in rows], scores, atol=1e-5)
    probs = centred(scores, np.array([.5, .5]))
    np.testing.assert_allclose([row['label_probs']['positive'] for row in rows], probs[:, 1], atol=1e-5)
    assert all(row['sc_votes'] is None for row in rows) and 'asked_otherwise' not in facts and done.usage.calls >= asked
    assert len({row['label_probs']['positive'].__round__(3) for row in rows}) > 2                             # finer than votes


SILENT = {'refuses in the words of the protocol': dict(refuses=['logprobs']), 'leaves the field out': {}, 'has other tokens': dict(logprobs=lambda body: {'Sure': -.1, 'The': -2.5}),
          'refuses without a reason': dict(script=lambda question, n: '400' if 'of the right label and nothing else' in question else 'ok')}


@pytest.mark.parametrize('kind', SILENT)
def test_a_server_that_shows_none_is_asked_for_votes_and_the_user_is_told_once(pocket, tmp_path, kind):
    with FaultServer(answer=vote, **SILENT[kind]) as server:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            rows, facts, done = made(server, pocket, tmp_path/'run')
        marks = [body for body in server.bodies if is_mark(body)]
        assert len(marks) == 1 + (kind.startswith('refuses in')) and len(server.bodies) - len(marks) == 3*8        # the refused question is sent once more, without the field
        before = server.stats()['received']
        request, judge = request_to(server, pocket, n=8)
        produce(request, tmp_path/'run', pocket, corrector=judge)
        assert server.stats()['received'] == before
    said = [str(one.message) for one in told if 'no log-probabilities' in str(one.message)]
    assert len(said) == 1 and 'voted on in 3 calls' in said[0] and said[0] in facts['notices']
    assert all(sum(one['votes'] for one in row['sc_votes']) == 3 and 'sc_logprobs' not in {k for k, v in row.items() if v} for row in rows)
    table = vote_scores([{one['answer']: one['votes'] for one in row['sc_votes']} for row in rows], NAMES)
    np.testing.assert_allclose([row['label_probs']['positive'] for row in rows], centred(table, np.array([.5, .5]))[:, 1], atol=1e-5)


def test_a_row_that_fails_leaves_its_labels_alike(pocket, tmp_path):
    with FaultServer(answer=vote, logprobs=lambda body: None if len(text_in(body)) % 5 == 0 else shown(body)) as server:
        rows, facts, _ = made(server, pocket, tmp_path/'run', n=16)
    bare = [row for row in rows if not row.get('sc_logprobs')]
    assert bare and len(bare) < 16 and all(len(row['text']) % 5 == 0 for row in bare) and 'gave no verdict' in ' '.join(facts['notices'])
    assert len({row['label_probs']['positive'] for row in bare}) == 1                                        # the offset of the run, and nothing else


def test_more_labels_than_a_server_shows_are_voted_on(pocket, tmp_path):
    many = Task(name='rooms', labels=[{'name': f'room {k}', 'demonstrations': [f'A bed stands in room {k}.']} for k in range(21)])
    def first(body): return json.dumps({'explanation': 'so', 'label': 'room 3'})
    with FaultServer(answer=first, logprobs=lambda body: pytest.fail('asked for log-probabilities')) as server:
        rows, facts, _ = made(server, pocket, tmp_path/'run', n=21, votes=2, task=many)
        assert server.stats()['received'] == 42 and not any('logprobs' in body for body in server.bodies)
    assert 'asked_otherwise' not in facts and all(row['sc_votes'] == [{'answer': 'room 3', 'votes': 2}] for row in rows)


def test_a_budget_holds_and_the_same_command_goes_on_without_asking_twice(pocket, tmp_path):
    with FaultServer(answer=vote, logprobs=shown) as server:
        whole, facts, _ = made(server, pocket, tmp_path/'whole', n=12)
        calls, sent = server.stats()['received'], []
        server.answered.clear()
        for most in (12, None):
            request, judge = request_to(server, pocket, n=12, machine={'limits': {'max_calls': most}} if most else None)
            told = estimate(request, pocket, corrector=judge, out=tmp_path/'run' if not most else None)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                done = produce(request, tmp_path/'run', pocket, corrector=judge)
            sent.append((done.usage.calls, server.answered.total(), told.calls))
        rows = list(read_rows(tmp_path/'run'))
    assert sent[0][0] <= 12 and 1 < sent[0][1] < sent[1][1] == calls and max(server.answered.values()) == 1
    assert sent[0][2] >= 12 and sent[1][2] >= calls - sent[0][1] and rows == whole


@pytest.mark.parametrize('silent', [pytest.param(False, marks=pytest.mark.long), True], ids=['shown', 'left out'])
def test_a_run_survives_kills_and_asks_nothing_twice(pocket, tmp_path, silent):
    rng, kills, tries = random.Random(2), 0, 0
    with FaultServer(answer=vote, logprobs=None if silent else shown, delay=.03) as server:
        request, _ = request_to(server, pocket, n=24, votes=2)
        session(request, tmp_path/'whole', tmp_path/'whole.log')
        calm = dict(server.answered)
        def judged(log): return server.answered.total()
        while kills < 3:
            tries, out, alive = tries + 1, tmp_path/f'run{tries}', True
            server.answered.clear()
            while alive:
                begun, done = len(server.bodies), {entry.get('text') for entry in stored(out).values()}
                alive = killed(request, out, tmp_path/'log', rng, 12, judged)
                kills += alive
                time.sleep(.1)                                        # what was on its way to the server arrives
                assert not done & {vote(body) for body in list(server.bodies)[begun:]}, 'a stored call was made again'
            assert set(server.answered) == set(calm)
            with open_run(out) as one, open_run(tmp_path/'whole') as other:
                assert list(one.rows(None)) == list(other.rows(None)) and one.facts['evidence'] == other.facts['evidence'] and one.facts['notices'] == other.facts['notices']
