"Each request is asked once and ends in one reply, whatever the order, the budget, or the moment when it stops."
import hashlib
import inspect
import queue
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from synthlab.decode.loop import Sampling
from synthlab.teacher.asking import TeacherError, TextTeacher, answers
from synthlab.teacher.budget import Budget, Estimate, Prices, Usage
from synthlab.teacher.requests import Answer, Request, request_key

WREN = {'name': 'wren-7b', 'revision': 'a1', 'base_url': 'http://127.0.0.1:1/v1'}


def request(n, **options): return Request([{'role': 'user', 'content': f'question {n}'}], Sampling(max_new_tokens=20), **options)


def truth(request):
    "What a teacher answers: decided by the words of the request alone; every seventh call is given up."
    digest = hashlib.sha256(request.messages[-1]['content'].encode()).digest()
    if digest[0] % 7 == 0: return Answer(error='timed out', attempts=5)
    return Answer(digest[1:5].hex(), prompt_tokens=digest[5] % 10, completion_tokens=digest[6] % 21, model='wren-7b')


class Toy(TextTeacher):
    "Answers by threads, in random order; notes everything."
    identity = WREN

    def __init__(self, lanes=4, seed=0, answer=truth, dies_after=None, bound=10):
        self.lanes, self.random, self.answer, self.dies_after, self.bound = lanes, random.Random(seed), answer, dies_after, bound
        self.asked, self.finished, self.most, self.nones, self.times = [], [], 0, 0, 0

    def token_bound(self, request): return self.bound

    def work(self, place, request, seconds, done):
        time.sleep(seconds)
        done.put((place, request, self.answer(request)))

    def ask(self, requests):
        self.times += 1
        source, place, under_way, over, done, thread = iter(requests), -1, 0, False, queue.Queue(), threading.get_ident()
        with ThreadPoolExecutor(self.lanes) as pool:
            while under_way or not over:
                pause = False
                while under_way < self.lanes and not over and not pause:
                    assert threading.get_ident() == thread
                    found = next(source, 'end')
                    place += 1
                    if found is None: self.nones, pause = self.nones + 1, True
                    elif found == 'end': over = True
                    else:
                        self.asked.append(found)
                        pool.submit(self.work, place, found, self.random.random()*2e-3, done)
                        under_way += 1
                        self.most = max(self.most, under_way)
                if not under_way: continue
                number, came, answer = done.get()
                under_way -= 1
                self.finished.append(came)
                yield number, answer
                if self.dies_after is not None and len(self.finished) >= self.dies_after: raise TeacherError('the server is not there')


class Slow(Toy):
    "One request after the other."
    def ask(self, requests):
        self.times += 1
        for place, found in enumerate(requests):
            assert found is not None, 'nothing is under way'
            self.asked.append(found)
            yield place, self.answer(found)


class OnceStore(dict):
    "A store that refuses to be told twice, and may fill up."
    room = None

    def __setitem__(self, key, value):
        assert key not in self, 'stored twice'
        if self.room is not None and len(self) >= self.room: raise OSError('no space left on device')
        super().__setitem__(key, value)


def keys(requests): return [request_key(r, WREN) for r in requests]


def stored(requests): return OnceStore((key, truth(r).to_dict()) for key, r in zip(keys(requests), requests))


# ---- every schedule

@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 15), max_size=60), st.sets(st.integers(0, 15)), st.integers(1, 6), st.none() | st.integers(1, 12), st.none() | st.integers(30, 400), st.integers(0, 9))
def test_each_is_asked_once_and_ends_once(numbers, known, lanes, max_calls, max_tokens, seed):
    requests, calls = [request(n) for n in numbers], stored([request(n) for n in sorted(known)])
    before, teacher, budget = len(calls), Toy(lanes, seed), Budget(max_calls, max_tokens)
    found = list(answers(teacher, iter(requests), calls, budget))
    assert sorted(place for place, _, _ in found) == list(range(len(requests)))
    assert max(Counter(keys(teacher.asked)).values(), default=0) <= 1 and not {r.messages[0]['content'] for r in teacher.asked} & {f'question {n}' for n in known}
    assert teacher.most <= lanes and len(calls) == before + len(teacher.asked)
    for place, answer, cached in found:
        if answer is None: assert not cached and keys([requests[place]])[0] not in calls
        else: assert answer == truth(requests[place]) == Answer.from_dict(calls[keys([requests[place]])[0]])
    fresh = [answer for _, answer, cached in found if answer and not cached]
    good = [truth(r) for r in teacher.asked if not truth(r).error]
    assert len(fresh) == len(teacher.asked)
    assert budget.spent == Usage(len(good), sum(cached for *_, cached in found), len(fresh) - len(good), sum(a.attempts for a in fresh), sum(a.prompt_tokens for a in good),
                                 sum(a.completion_tokens for a in good), 0, None if good else 0.)
    assert budget.spent.calls <= (max_calls or 99) and budget.spent.tokens <= (max_tokens or 9_999)
    unasked = [place for place, answer, _ in found if answer is None]
    assert bool(unasked) == bool(budget.reason)
    if unasked:                          # the budget stopped in the order of the requests, and only when the next call might not have fitted
        asked = keys(teacher.asked)
        assert all(keys([requests[place]])[0] in [*asked, *keys(map(request, known))] for place in range(unasked[0]))
        assert budget.spent.calls == max_calls or budget.spent.tokens + 30 > max_tokens


@pytest.mark.parametrize('lanes', [1, 3, 50])
def test_max_calls_is_exact(lanes):
    teacher, budget = Toy(lanes, answer=lambda r: Answer('a', prompt_tokens=1, completion_tokens=1)), Budget(max_calls=10)
    found = list(answers(teacher, map(request, range(100)), {}, budget))
    assert len(teacher.asked) == budget.spent.calls == 10 and sum(answer is None for _, answer, _ in found) == 90
    assert {place for place, answer, _ in found if answer} == set(range(10))


def test_a_failed_call_makes_room_for_another():
    teacher = Toy(5, answer=lambda r: Answer(error='500') if int(r.messages[0]['content'].split()[1]) % 2 else Answer('a'))
    found = list(answers(teacher, map(request, range(40)), {}, budget := Budget(max_calls=10)))
    assert (budget.spent.calls, budget.spent.failed) == (10, 9) and len(teacher.asked) == 19
    assert teacher.nones and teacher.times == 1                     # told to finish something, and not sent away
    assert {place for place, answer, _ in found if answer is None} == set(range(19, 40))


def test_the_stop_on_money_is_exact():
    price = Prices({'wren-7b': {'prompt': 1, 'completion': 2}})
    teacher = Toy(4, answer=lambda r: Answer('a', prompt_tokens=10, completion_tokens=20))
    list(answers(teacher, map(request, range(100)), {}, budget := Budget(max_cost=0.00025, prices=price, model='wren-7b')))
    assert len(teacher.asked) == 5 and budget.spent.cost == pytest.approx(0.00025) and budget.reason.startswith('max_cost')


def test_what_the_store_knows_comes_out_after_the_budget_is_spent():
    calls = stored([request(n) for n in range(50, 60)])
    found = {place: (answer, cached) for place, answer, cached in answers(Toy(), map(request, range(100)), calls, Budget(max_calls=5))}
    assert [place for place, (answer, cached) in found.items() if cached] == list(range(50, 60)) and found[99] == (None, False)


def test_two_jobs_share_a_budget():
    budget, teachers = Budget(max_calls=20), [Toy(4, seed, answer=lambda r: Answer('a')) for seed in range(2)]
    threads = [threading.Thread(target=lambda t: list(answers(t, map(request, range(50)), {}, budget)), args=(t,)) for t in teachers]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert sum(len(t.asked) for t in teachers) == budget.spent.calls == 20


# ---- stopped in the middle, and taken up again

def stop_closed(teacher, requests, calls, after):
    "The consumer goes away."
    found = answers(teacher, requests, calls)
    list(islice(found, after))
    found.close()


def stop_teacher(teacher, requests, calls, after):
    "The server goes away."
    teacher.dies_after = after
    with pytest.raises(TeacherError, match='not there'): list(answers(teacher, requests, calls))


def stop_store(teacher, requests, calls, after):
    "The disk is full."
    calls.room = after
    with pytest.raises(OSError, match='no space'): list(answers(teacher, requests, calls))
    calls.room = None


def stop_consumer(teacher, requests, calls, after):
    "The consumer fails at one of the answers."
    with pytest.raises(ZeroDivisionError):
        for n, _ in enumerate(answers(teacher, requests, calls), 1): n >= after and 1/0


@pytest.mark.parametrize('stop', [stop_closed, stop_teacher, stop_store, stop_consumer])
@pytest.mark.parametrize('after', [1, 7, 19])
def test_taken_up_again_nothing_finished_is_repeated(stop, after):
    requests = [request(n % 25) for n in random.Random(after).choices(range(100), k=60)]
    whole = {place: answer for place, answer, _ in answers(Toy(), requests, OnceStore())}
    calls, first, second = OnceStore(), Toy(5, after), Toy(3, after + 1)
    stop(first, requests, calls, after)
    kept = set(calls)
    assert kept and kept >= set(keys(first.finished[:-1] if stop is stop_store else first.finished))
    resumed = {place: answer for place, answer, _ in answers(second, requests, calls)}
    assert resumed == whole and not kept & set(keys(second.asked))


def test_many_stops():
    requests, calls, asked = [request(n) for n in range(200)], OnceStore(), []
    for seed in count():
        teacher = Toy(6, seed)
        found = list(islice(answers(teacher, requests, calls), len(calls) + 1 + seed % 13))
        asked += keys(teacher.finished)
        if len(found) == 200 and len(calls) == 200: break
    assert len(asked) == len(set(asked)) == 200 and seed > 10


def test_a_stop_gives_the_room_back():
    budget = Budget(max_calls=10)
    found = answers(Toy(8, answer=lambda r: Answer('a')), map(request, range(50)), calls := {}, budget)
    next(found)
    found.close()
    again = Toy(8, answer=lambda r: Answer('a'))
    list(answers(again, map(request, range(50)), calls, budget))
    assert budget.spent.calls == 10 == len(calls)


def test_what_is_under_way_is_cancelled():
    class Held(Slow):
        def ask(self, requests):
            self.going = super().ask(requests)
            return self.going

    teacher = Held()
    found = answers(teacher, map(request, range(5)), {})
    next(found)
    found.close()
    assert inspect.getgeneratorstate(teacher.going) == 'GEN_CLOSED'


# ---- lazy and bounded

def test_takes_no_more_than_it_has_room_for():
    taken = 0

    def endless():
        nonlocal taken
        for n in count():
            taken += 1
            yield request(n)

    found = answers(Toy(5), endless(), {})
    assert taken == 0
    for n, _ in enumerate(islice(found, 200), 1): assert taken <= n + 6
    found.close()


def test_what_is_in_the_store_flows_by():
    "Cached ones are handed out at once where nothing is under way, and a few hundred at most are held beside a slow call."
    calls, taken = stored([request(n) for n in range(1, 2_000)]), 0

    def noted(numbers):
        nonlocal taken
        for n in numbers:
            taken += 1
            yield request(n)

    teacher = Toy(3)
    for n, (place, _, cached) in enumerate(answers(teacher, noted(range(1, 500)), calls), 1): assert cached and taken == n == place + 1
    assert teacher.times == 0
    taken = 0
    for n, _ in enumerate(answers(Toy(3), noted(range(2_500)), calls), 1): assert taken - n <= 260
    assert n == 2_500


def test_equal_requests_in_a_long_row_are_held_in_bounds():
    taken = 0

    def equal():
        nonlocal taken
        for _ in range(3_000):
            taken += 1
            yield request(1)

    teacher, most = Toy(4), 0
    for n, (_, _, cached) in enumerate(answers(teacher, equal(), {}), 1):
        most = max(most, taken - n)
        assert cached == (n > 1)
    assert len(teacher.asked) == 1 and most <= 257 and n == 3_000


def test_one_after_the_other_with_a_patchy_store():
    calls = stored([request(n) for n in range(0, 300, 3)])
    found = list(answers(Slow(), map(request, range(300)), calls, budget := Budget(max_calls=500)))
    assert [place for place, _, _ in found] == list(range(300)) and budget.spent.cached == 100


def test_an_answer_is_stored_before_it_is_seen():
    calls = OnceStore()
    for place, answer, _ in answers(Toy(), map(request, range(20)), calls): assert calls[keys([request(place)])[0]] == answer.to_dict()


# ---- teachers that break their word

def test_a_teacher_that_drops_a_request_is_found_out():
    class Forgetful(Slow):
        def ask(self, requests): yield from ((place, answer) for place, answer in super().ask(requests) if place != 3)
    with pytest.raises(TeacherError, match='Forgetful gave no answer to 1 request'): list(answers(Forgetful(), map(request, range(9)), {}))


@pytest.mark.parametrize('place', [0, 7])
def test_a_teacher_that_answers_what_it_was_not_asked_is_found_out(place):
    class Eager(Slow):
        def ask(self, requests):
            for answered in super().ask(requests): yield from (answered, (place, Answer('b')))
    with pytest.raises(TeacherError, match=f'answered request {place}, which it was not given'): list(answers(Eager(), map(request, range(9)), {}))


def test_what_is_no_request_is_named_with_its_place():
    with pytest.raises(ValueError, match="request 1 is not a Request but 'Name a bird.'"): list(answers(Slow(), [request(0), 'Name a bird.'], {}))
    teacher = Slow()
    with pytest.raises(ValueError, match='request 2 is not a Request'): teacher.complete([request(0), request(1), None])
    assert not teacher.asked


# ---- replies

class Bird(BaseModel):
    name: str
    legs: int


def shaped(request):
    "Some answers have the shape at once, some after a repair, some never; some are given up, refused or cut off."
    first, last = request.messages[0]['content'], request.messages[-1]['content']
    kind = KINDS[int(first.split()[1]) % len(KINDS)]
    told = {'prompt_tokens': 8, 'completion_tokens': 9}
    good, bad = Answer(f'{{"name": "{first}", "legs": 2}}', **told), Answer('{"name": "crow"}', **told)
    repaired = first != last
    return {'good': good, 'late': good if repaired else bad, 'never': bad, 'failed': Answer(error='timed out', attempts=3), 'refused': Answer(refusal='No.', **told),
            'cut': Answer('{"name', 'length', **told), 'broken': Answer(error='gone', attempts=5) if repaired else bad}[kind]


KINDS = ['good', 'late', 'never', 'failed', 'refused', 'cut', 'broken']
ENDS = {'good': 'ok', 'late': 'ok', 'never': 'malformed', 'failed': 'failed', 'refused': 'refused', 'cut': 'truncated', 'broken': 'failed'}
BIRDS = [request(n, schema=Bird, name=n) for n in range(70)]


def kind(n): return KINDS[n % len(KINDS)]


@pytest.mark.parametrize('lanes', [1, 6])
def test_every_request_ends_in_one_reply(lanes):
    teacher, budget = Toy(lanes, answer=shaped), Budget()
    replies = teacher.complete(BIRDS, budget=budget)
    assert [r.request for r in replies] == BIRDS and [r.request.name for r in replies] == list(range(70))
    assert [r.outcome for r in replies] == [ENDS[kind(n)] for n in range(70)]
    assert all(r.value == Bird(name=f'question {n}', legs=2) if r.ok else r.value is None and r.reason for n, r in enumerate(replies))
    assert [len(r.answers) for r in replies] == [2 if kind(n) in ('late', 'never', 'broken') else 1 for n in range(70)]
    assert (budget.spent.calls, budget.spent.failed, budget.spent.cached, len(teacher.asked)) == (80, 20, 0, 100)
    assert budget.spent.attempts == sum(a.attempts for r in replies for a in r.answers) == 80 + 10*3 + 10*5
    broken = replies[6]
    assert broken.reason.startswith('gone; before the repair: ') and 'legs' in broken.reason and broken.answers[0].text == '{"name": "crow"}'


def test_nothing_is_asked_again_not_even_a_repair():
    calls = OnceStore()
    first, budget, idle = Toy(answer=shaped).complete(BIRDS, calls), Budget(max_calls=1), Toy(answer=shaped)
    again = idle.complete(BIRDS, calls, budget)
    assert idle.estimate(BIRDS, calls) == Estimate(cached=70)
    assert not idle.asked and budget.spent == Usage(cached=100) and [r.cached for r in again] == [len(r.answers) for r in first]
    assert [(r.outcome, r.value, r.answers) for r in again] == [(r.outcome, r.value, r.answers) for r in first]


@pytest.mark.parametrize('after', [1, 30, 69, 75, 99])
def test_replies_after_a_stop_are_those_without_one(after):
    calls, first, second = OnceStore(), Toy(5, after, shaped, dies_after=after), Toy(5, answer=shaped)
    with pytest.raises(TeacherError): first.complete(BIRDS, calls)
    expected = second.estimate(BIRDS, calls)
    assert expected.calls == max(70 - after, 0) and expected.calls <= 100 - after <= expected.calls + expected.repairs
    replies = second.complete(BIRDS, calls)
    whole = Toy(answer=shaped).complete(BIRDS)
    assert [(r.outcome, r.value, r.answers) for r in replies] == [(r.outcome, r.value, r.answers) for r in whole]
    assert not set(keys(first.finished)) & set(keys(second.asked)) and len(first.finished) + len(second.asked) == 100


def test_without_repair():
    teacher = Toy(answer=shaped)
    assert Counter(r.outcome for r in teacher.complete(BIRDS, repair=False)) == {'ok': 10, 'malformed': 30, 'failed': 10, 'refused': 10, 'truncated': 10}
    assert len(teacher.asked) == 70


@pytest.mark.parametrize('max_calls', [1, 40, 60, 65, 79, 80, 81])
def test_a_budget_leaves_a_valid_part(max_calls):
    teacher, budget = Toy(5, answer=shaped), Budget(max_calls=max_calls)
    replies = teacher.complete(BIRDS, budget=budget)
    assert budget.spent.calls == min(max_calls, 80) and len(replies) == 70
    unasked = [n for n, r in enumerate(replies) if r.outcome == 'unasked']
    assert unasked == list(range(unasked[0], 70)) if max_calls < 60 else not unasked
    assert all(replies[n].reason.startswith(f'max_calls = {max_calls} is spent') and not replies[n].answers for n in unasked)
    missed = [n for n, r in enumerate(replies) if 'not repaired, as max_calls' in r.reason]
    assert all(replies[n].outcome == 'malformed' and kind(n) in ('late', 'never', 'broken') for n in missed) and bool(missed) == (1 < max_calls <= 80)


def test_plain_text_needs_no_schema():
    replies = Toy().complete([request(n) for n in range(20)])
    assert [r.value for r in replies] == [truth(request(n)).text or None for n in range(20)]
    assert Toy().complete([]) == []


def test_the_bar_is_shown_when_told(capsys):
    Toy().complete(map(request, range(5)))
    assert capsys.readouterr().err == ''
    Toy().complete(map(request, range(5)), progress=False)
    assert capsys.readouterr().err == ''
    Toy(answer=shaped).complete(BIRDS, progress=True)
    assert '100/100' in capsys.readouterr().err


# ---- estimates

PRICES = Prices({'wren-7b': {'prompt': 1, 'completion': 2}})


@given(st.lists(st.integers(0, 15), max_size=40), st.sets(st.integers(0, 15)))
@settings(deadline=None)
def test_what_is_spent_lies_within_the_estimate(numbers, known):
    requests, calls, teacher = [request(n) for n in numbers], stored([request(n) for n in sorted(known)]), Slow()
    expected = teacher.estimate(iter(requests), calls, PRICES)
    assert not teacher.asked and len(calls) == len(known)
    missing = set(numbers) - known
    assert expected.calls == len(missing) and expected.cached == len(numbers) - len(missing)
    assert expected.prompt_bound == expected.prompt_tokens == 10*len(missing) and expected.completion_tokens == 20*len(missing)
    assert expected.cost == pytest.approx(len(missing)*(10 + 2*20)/1e6)
    teacher.complete(requests, calls, budget := Budget(prices=PRICES, model='wren-7b'))
    assert budget.spent.calls + budget.spent.failed == expected.calls and budget.spent.cached == expected.cached
    assert budget.spent.cost <= expected.cost and budget.spent.tokens <= expected.prompt_bound + expected.completion_tokens


def test_an_estimate_tells_what_is_not_known():
    assert Slow().estimate([request(0)]).cost is None and Slow().estimate([request(0)], prices=Prices()).cost is None
    assert Slow().estimate([]).cost == 0 and Slow().estimate(BIRDS).repairs == 70 and Slow().estimate([request(0)]).repairs == 0
    with pytest.raises(ValueError, match='request 0 is not a Request'): Slow().estimate(['Name a bird.'])


def test_a_guess_is_never_above_the_bound():
    class Guesser(Slow):
        def token_guess(self, request): return 4 if request.messages[0]['content'] == 'question 0' else 40
    expected = Guesser().estimate([request(0), request(1)])
    assert (expected.prompt_tokens, expected.prompt_bound) == (14, 20)


def test_a_hosted_teacher_finds_its_price():
    pytest.importorskip('genai_prices')

    class Hosted(Slow):
        identity = {'name': 'gpt-4o-mini', 'base_url': 'https://api.openai.com/v1'}
    assert Hosted().estimate([request(0)]).cost == pytest.approx((0.15*10 + 0.6*20)/1e6)


def test_a_teacher_has_to_write_its_three_methods():
    with pytest.raises(TypeError, match='ask'): TextTeacher()
