"Chains of requests side by side: each request asked once, each chain ended once, whatever the order, the store and the budget."
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_teacher import ScriptedTeacher
from synthlab.decode.sampling import Sampling
from synthlab.teacher.asking import TeacherError, in_chains, mended
from synthlab.teacher.budget import Budget
from synthlab.teacher.requests import Answer, Request


def request(word): return Request([{'role': 'user', 'content': f'{word}'}], Sampling(8))


def walk(number, ended):
    "Some steps of one to three requests, each of which names the answers before; some are those of other chains too."
    rng, told = random.Random(number), f'{number % 7}'
    for _ in range(rng.randint(0, 3)):
        replies = yield [request(f'{told} {n}') for n in range(rng.randint(1, 3))]
        if any(reply.outcome == 'unasked' for reply in replies): return number, None
        told = ' '.join(reply.text[:5] for reply in replies)
    ended.append(number)
    return number, told


def asked_twice(teacher): return [key for key, n in Counter(asked.key for asked in teacher.asked).items() if n > 1]


@given(st.integers(0, 40), st.integers(1, 20), st.integers(0, 5), st.one_of(st.none(), st.integers(1, 30)))
@settings(max_examples=60, deadline=None)
def test_each_chain_ends_once_and_each_request_is_asked_once(chains, window, order, max_calls):
    plain = dict(in_chains(ScriptedTeacher(), (walk(n, []) for n in range(chains)), {}))
    calls, teacher, results = {}, ScriptedTeacher(order=order, window=window), []
    budget = Budget(max_calls=max_calls)
    for _ in range(1000):
        results = list(in_chains(teacher, (walk(n, []) for n in range(chains)), calls, budget))
        assert sorted(number for number, _ in results) == list(range(chains)) and not asked_twice(teacher)
        assert max_calls is None or budget.spent.calls <= max_calls and len(teacher.asked) == len(calls)
        if all(told is not None for _, told in results): break
        budget = Budget(max_calls=max_calls)
    assert dict(results) == plain


def test_a_source_may_wait_for_chains_under_way():
    ended = []
    def source():
        for number in range(10, 20):
            yield walk(number, ended)
            while number not in ended: yield None
    assert [number for number, _ in in_chains(ScriptedTeacher(), source(), {})] == list(range(10, 20)) == ended


def test_what_was_answered_is_kept_when_the_teacher_is_gone():
    calls, teacher = {}, ScriptedTeacher(dies_after=12, order=1)
    with pytest.raises(TeacherError, match='gone'): list(in_chains(teacher, (walk(n, []) for n in range(40)), calls))
    known, later = set(calls), ScriptedTeacher()
    assert len(dict(in_chains(later, (walk(n, []) for n in range(40)), calls))) == 40 and not known & {asked.key for asked in later.asked}


def test_a_consumer_that_stops_leaves_the_budget_free():
    budget = Budget(max_calls=1000)
    results = in_chains(ScriptedTeacher(order=1), (walk(n, []) for n in range(1, 40)), {}, budget)
    next(results)
    results.close()
    assert budget._promised.calls == 0


def test_an_error_in_a_chain_names_itself():
    def broken():
        yield [request('a')]
        raise ZeroDivisionError('in the chain')
    with pytest.raises(ZeroDivisionError, match='in the chain'): list(in_chains(ScriptedTeacher(), [broken()], {}))


def test_mended_asks_once_more_for_the_right_shape():
    from pydantic import BaseModel
    class Bird(BaseModel): name: str
    def script(asked): return Answer('a wren', completion_tokens=1) if not asked.repair else None
    def chain(): return (yield from mended([Request(request('bird').messages, Sampling(8), Bird), request('tree')]))
    teacher = ScriptedTeacher(script)
    [[bird, tree]] = in_chains(teacher, [chain()], {})
    assert (bird.outcome, len(bird.answers), tree.outcome, len(teacher.asked)) == ('ok', 2, 'ok', 3)
    def nothing(): return (yield from mended([]))
    assert list(in_chains(teacher, [nothing()], {})) == [[]]
