"Limits hold at every moment, sums are those of a plain accountant, and unknown is never zero."
import random
import sys
import threading
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab.teacher.budget import Budget, Estimate, Prices, Usage, answer_usage, library_cost, money
from synthlab.teacher.requests import Answer

OPENAI = 'https://api.openai.com/v1'
SIZES = st.tuples(st.integers(0, 400), st.integers(0, 400))
HUNDREDTHS = st.integers(0, 5_000).map(lambda n: n/100)


def answer(prompt_tokens, completion_tokens, **others): return Answer('a', prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, **others)


class Accountant:
    "Adds everything up anew, in exact fractions, whenever it is asked."
    def __init__(self, calls, tokens, cost, price):
        self.limits, self.price, self.booked, self.promised = (calls, tokens, cost), price, [], []

    def sums(self, entries):
        p, c = (sum(e[i] for e in entries) for i in (0, 1))
        return len(entries), p + c, (Fraction(str(self.price['prompt']))*p + Fraction(str(self.price['completion']))*c)/10**6

    def fits(self, entries): return all(limit is None or taken <= Fraction(str(limit)) for limit, taken in zip(self.limits, self.sums(entries)))


@st.composite
def endings(draw, reserved):
    "How a call may end: within its bound, with tokens untold, given up, or never made."
    most_p, most_c = reserved
    kind = draw(st.sampled_from(['told', 'told', 'told', 'untold', 'half', 'failed', 'never']))
    if kind in ('failed', 'never'): return kind, Answer(error='timed out', attempts=3), None
    p, c = draw(st.integers(0, most_p)), draw(st.integers(0, most_c))
    if kind == 'untold': return kind, answer(None, None), reserved
    if kind == 'half': return kind, answer(p, None), (p, most_c)
    return kind, answer(p, c), (p, c)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_every_schedule_agrees_with_an_accountant(data):
    calls, tokens = (data.draw(st.none() | st.integers(1, top)) for top in (12, 3_000))
    cost = data.draw(st.none() | st.integers(1, 10_000).map(lambda n: n/10_000))
    price = {'prompt': data.draw(HUNDREDTHS), 'completion': data.draw(HUNDREDTHS)}
    budget, books = Budget(calls, tokens, cost, Prices({'m': price}), 'm'), Accountant(calls, tokens, cost, price)
    failed = 0
    for _ in range(data.draw(st.integers(0, 40))):
        if books.promised and data.draw(st.booleans()):
            reserved = books.promised.pop(data.draw(st.integers(0, len(books.promised) - 1)))
            kind, came, used = data.draw(endings(reserved))
            if kind == 'never': budget.release(*reserved)
            else: budget.settle(reserved, came)
            if used: books.booked.append(used)
            failed += kind == 'failed'
        else:
            size = data.draw(SIZES)
            room = books.fits([*books.booked, *books.promised, size])
            assert budget.reserve(*size) == room == (not budget.reason)
            if room: books.promised.append(size)
        n, total, spent = books.sums(books.booked)
        assert (budget.spent.calls, budget.spent.tokens, budget.spent.failed) == (n, total, failed)
        assert budget.spent.cost == pytest.approx(float(spent), rel=1e-9, abs=1e-15)
        assert books.fits(books.booked + books.promised)


@settings(deadline=None)
@given(st.lists(SIZES, max_size=30), st.integers(1, 10), st.integers(1, 5_000))
def test_with_exact_bounds_it_stops_at_the_first_call_that_would_exceed(sizes, max_calls, max_tokens):
    budget, made = Budget(max_calls, max_tokens), 0
    for size in sizes:
        if not budget.reserve(*size): break
        budget.settle(size, answer(*size))
        made += 1
    totals = accumulate(p + c for p, c in sizes)
    assert made == sum(n < max_calls and total <= max_tokens for n, total in enumerate(totals))


@pytest.mark.parametrize('limit', [{'max_calls': 137}, {'max_tokens': 9_999}, {'max_cost': 0.05}])
def test_threads_never_exceed_a_limit(limit):
    "Sixteen threads ask, each until it was refused 200 times; what is really used is added up apart."
    budget, used, lock, over = Budget(**limit, prices=Prices({'m': {'prompt': 1, 'completion': 10}}), model='m'), [], threading.Lock(), []

    def work(seed):
        rng, misses = random.Random(seed), 0
        while misses < 200:
            reserved = rng.randint(0, 60), rng.randint(0, 60)
            if not budget.reserve(*reserved): misses += 1; continue
            took = rng.randint(0, reserved[0]), rng.randint(0, reserved[1])
            with lock: used.append(took)                        # the call happens here, before it is booked
            n, p, c = len(used), *(sum(u[i] for u in used[:]) for i in (0, 1))
            over.append(n > limit.get('max_calls', n) or p + c > limit.get('max_tokens', p + c) or (p + 10*c)/1e6 > limit.get('max_cost', 1))
            budget.settle(reserved, answer(*took))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not any(over)
    assert (budget.spent.calls, budget.spent.tokens) == (len(used), sum(p + c for p, c in used))
    if 'max_calls' in limit: assert budget.spent.calls == 137
    if 'max_tokens' in limit: assert 9_999 - 120 < budget.spent.tokens <= 9_999


def test_what_is_refused_may_fit_later():
    budget = Budget(max_tokens=100)
    assert budget.reserve(30, 30) and not budget.reserve(30, 30) and 'max_tokens = 100' in budget.reason
    budget.settle((30, 30), answer(10, 10))
    assert budget.reserve(30, 30) and budget.reason == ''


def test_what_was_spent_before_counts():
    budget = Budget(max_calls=10, spent=Usage(calls=8, prompt_tokens=100, cost=None))
    assert [budget.reserve(1, 1) for _ in range(3)] == [True, True, False]
    assert not Budget(max_tokens=100, spent=Usage(calls=1, prompt_tokens=120)).reserve(0, 0)


def test_a_call_that_takes_more_than_its_bound_is_booked_as_it_is():
    budget = Budget(max_tokens=100)
    assert budget.reserve(10, 10)
    budget.settle((10, 10), answer(200, 10))
    assert budget.spent.tokens == 210 and not budget.reserve(1, 0)


@pytest.mark.parametrize('dimes, max_cost', [(3, 0.3), (30, 3), (300, 30)])
def test_sums_of_dimes_come_out_even(dimes, max_cost):
    prices = Prices({'m': {'prompt': 0.1, 'completion': 0}})
    budget = Budget(max_cost=max_cost, prices=prices, model='m')
    made = 0
    while budget.reserve(1_000_000, 0):
        budget.settle((1_000_000, 0), answer(1_000_000, 0))
        made += 1
    assert made == dimes


@pytest.mark.parametrize('options, message', [
    ({'max_calls': 0}, 'max_calls must be a whole number above 0'), ({'max_calls': True}, 'got True'), ({'max_calls': 1.5}, 'got 1.5'), ({'max_tokens': -1}, 'max_tokens'),
    ({'max_cost': 0}, 'max_cost must be a number above 0'), ({'max_cost': float('nan')}, 'got nan'), ({'max_cost': float('inf')}, 'got inf'), ({'max_cost': '5'}, "got '5'"),
    ({'max_cost': 1}, 'max_cost needs a price'), ({'max_cost': 1, 'model': 'x', 'prices': Prices()}, "'x' is not known: give prices="),
    ({'max_cost': 1, 'model': 'm', 'prices': Prices({'m': {'prompt': 1, 'completion': 1}}), 'spent': Usage(cost=None)}, 'that cost is unknown')])
def test_limits_that_cannot_hold_are_refused(options, message):
    with pytest.raises(ValueError, match=message): Budget(**options)


def test_reservations_are_checked():
    with pytest.raises(ValueError, match='fewer than 0'): Budget().reserve(-1, 5)
    budget = Budget()
    assert budget.reserve(5, 5)
    budget.release(5, 5)
    with pytest.raises(ValueError, match='never reserved'): budget.release(5, 5)
    with pytest.raises(ValueError, match='never reserved'): budget.settle((5, 5), answer(1, 1))


# ---- usage

COSTS = st.none() | st.integers(0, 100).map(float)
USAGES = st.builds(Usage, *[st.integers(0, 9)]*7, COSTS)


@given(USAGES, USAGES, USAGES)
def test_usages_add(a, b, c):
    assert (a + b) + c == a + (b + c) and a + b == b + a and a + Usage() == a
    assert (a + b).cost == (None if None in (a.cost, b.cost) else a.cost + b.cost)
    assert (a + b).known_cost == (a.cost or 0) + (b.cost or 0)


def test_unknown_is_never_zero():
    assert answer_usage(answer(5, 5)).cost is None and answer_usage(answer(5, 5), Prices(), 'm').cost is None
    assert answer_usage(answer(None, 5), Prices({'m': {'prompt': 1, 'completion': 1}}), 'm').cost is None
    budget = Budget()
    assert budget.reserve(5, 5)
    budget.settle((5, 5), answer(None, 3))
    assert (budget.spent.tokens, budget.spent.unknown_tokens, budget.spent.cost) == (8, 1, None)
    assert 'unknown' in str(budget.spent) and '$0' not in str(budget.spent) and 'unknown' in repr(budget) and 'unknown' in Estimate(calls=1, cost=None)._repr_html_()


def test_money_shows_what_counts():
    assert [money(x) for x in (0., 1e-9, 0.01, 0.5, 1, 1e6)] == ['$0.00', '$0.00000000100', '$0.0100', '$0.500', '$1.00', '$1,000,000.00']


def test_tables_for_people():
    for shown in (Usage(1, 2, 3, 1_000, 5, 6, cost=0.5), Estimate(1, 2, 3, 4, 5., 6, 7)):
        assert shown._repr_html_().count('<tr>') == len(str(shown).splitlines()) == len(shown.rows())
    assert '1,000' in str(Usage(attempts=1_000)) and 'at most 7 calls more' in str(Estimate(repairs=7))


# ---- prices

def test_a_table_from_a_file(tmp_path):
    path = tmp_path/'prices.toml'
    path.write_text('[wren]\nprompt = 1\ncompletion = 2.5\n["birds/crow.1"]\nprompt = 0\ncompletion = 0\n')
    prices = Prices.from_toml(path)
    assert (prices.cost('wren', 10**6, 10**6), prices.cost('birds/crow.1', 10**6, 0), prices.cost('robin', 1, 1)) == (3.5, 0, None)
    for text, message in {'[wren]\nprompt = 1': "'completion': ...", 'not toml': 'no table of prices', '[wren]\nprompt = "1"\ncompletion = 2': "got '1'"}.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message): Prices.from_toml(path)


@pytest.mark.parametrize('price', [0.15, None, {'prompt': 1}, {'prompt': 1, 'completion': 1, 'cached': 1}, {'prompt': float('nan'), 'completion': 1}, {'prompt': True, 'completion': 1}])
def test_wrong_prices_are_refused(price):
    with pytest.raises(ValueError, match="the price of 'm' must be"): Prices({'m': price})


def test_hosted_models_are_known_by_their_address():
    pytest.importorskip('genai_prices')
    prices = Prices({'gpt-4o': {'prompt': 1, 'completion': 1}}, OPENAI)
    assert prices.cost('gpt-4o-mini', 10**6, 10**6) == pytest.approx(0.75)
    assert prices.cost('gpt-4o', 10**6, 10**6) == 2                  # the user's entry wins
    assert prices.cost('no-such-model', 1, 1) is None
    assert Prices(base_url='http://127.0.0.1:8000/v1').cost('gpt-4o-mini', 1, 1) is None
    assert Prices().cost('gpt-4o-mini', 1, 1) is None


def test_without_the_library_hosted_prices_are_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, 'genai_prices', None)
    assert library_cost('gpt-4o-mini', 1, 1, OPENAI) is None
    with pytest.raises(ValueError, match="'gpt-4o-mini' is not known"): Budget(max_cost=1, prices=Prices(base_url=OPENAI), model='gpt-4o-mini')


def test_many_tokens_are_counted_to_the_last():
    budget = Budget(max_tokens=10**12)
    assert budget.reserve(10**12 - 1, 0) and budget.reserve(1, 0) and not budget.reserve(1, 0)
