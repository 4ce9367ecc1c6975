"The throttle finds what a server takes, stays near it, and loses no call; in virtual time, against a simulated server."
import asyncio
import math
import random
import selectors
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab.teacher.throttle import (
    LONGEST_OWN_PAUSE, LONGEST_PAUSE, Limit, Pace, Throttle, after_success, after_throttle, book, retry_after)


class Hurry(selectors.DefaultSelector):
    "A selector that never waits: the time that it was asked to wait has passed at once."
    passed = 0.

    def select(self, timeout=None):
        self.passed += timeout or 0.
        return super().select(0)


def virtually(program):
    "Run a coroutine function in virtual time; it is given the loop's clock."
    selector = Hurry()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.passed
    try: return loop.run_until_complete(program(loop.time))
    finally: loop.close()


class Server:
    "Serves `capacity(now)` calls at once, each in about a second, and refuses the others after 50 ms."

    def __init__(self, clock, capacity, seed=0, wait=None): self.clock, self.capacity, self.wait, self.rng, self.busy, self.log = clock, capacity, wait, random.Random(seed), 0, []

    async def call(self):
        "Whether the call was served."
        served = self.busy < self.capacity(self.clock())
        self.log.append((self.clock(), served, self.busy))
        if not served: await asyncio.sleep(.05); return False
        self.busy += 1
        try: await asyncio.sleep(self.rng.uniform(.5, 1.5))
        finally: self.busy -= 1
        return True


async def work(throttle, server, n, tokens=0.):
    "Serve n requests; how often each was served, and the most that were in flight."
    done, peak = [0]*n, 0

    async def until_served(place):
        nonlocal peak
        while not done[place]:
            async with throttle(tokens) as slot:
                assert throttle.in_flight <= max(throttle.limit, peak)
                peak = max(peak, throttle.in_flight)
                if await server.call():
                    done[place] += 1
                    slot.success()
                else: slot.refused(server.wait)
    await asyncio.gather(*map(until_served, range(n)))
    return done, peak


def efficiency(log, capacity, since, until):
    "Share of the capacity in use when calls arrived, and share of calls refused, between two times."
    seen = [(b/capacity(t), served) for t, served, b in log if since <= t < until]
    return sum(share for share, _ in seen)/len(seen), sum(not served for _, served in seen)/len(seen)


@pytest.mark.parametrize('capacity', [1, 2, 7, 20, 90])
def test_finds_a_capacity_and_stays(capacity):
    async def program(clock):
        throttle, server = Throttle(200, clock=clock), Server(clock, lambda t: capacity)
        done, _ = await work(throttle, server, 150*capacity)
        return done, server, clock(), throttle
    done, server, took, throttle = virtually(program)
    assert set(done) == {1} and throttle.in_flight == 0
    assert took < 1.35*150 + 10
    share, refused = efficiency(server.log, lambda t: capacity, 40, took - 5)
    assert refused < .15 and (share > .7 or capacity < 3)            # (few slots: the one that has just been left is a large part)


def test_follows_a_capacity_that_changes():
    def capacity(t): return 40 if t < 100 else 8 if t < 200 else 60
    async def program(clock):
        throttle, server = Throttle(64, clock=clock), Server(clock, capacity)
        await work(throttle, server, 10_000)
        return throttle.samples, server.log
    samples, log = virtually(program)
    for since, until, level in ((30, 100, 40), (115, 200, 8), (245, 260, 60)):
        share, refused = efficiency(log, capacity, since, until)
        assert share > .8 and refused < .1, (since, share, refused)
        seen = [limit for t, limit, _ in samples if since < t < until]
        assert .7*level - 1 <= sum(seen)/len(seen) <= 1.1*level + 1


def test_reaches_its_ceiling_and_no_more():
    async def program(clock):
        throttle, server = Throttle(32, clock=clock), Server(clock, lambda t: 1000)
        return await work(throttle, server, 2000), throttle, clock()
    (done, peak), throttle, took = virtually(program)
    assert peak == throttle.limit == 32 and took < 1.1*2000/32


@pytest.mark.parametrize('share', [.02, .1, .2])
def test_comes_back_after_refusals_at_random(share):
    "Refusals that have nothing to do with the number of calls lower the limit; it returns to the ceiling when they end."
    async def program(clock):
        throttle, rng, seen, sent = Throttle(32, clock=clock), random.Random(0), [], 0
        async def call(n):
            nonlocal sent
            while True:
                async with throttle() as slot:
                    sent += 1
                    stormy = sent < 1000
                    await asyncio.sleep(.1)
                    if stormy and rng.random() < share: slot.refused()
                    else: slot.success(); return seen.append(throttle.limit)
        await asyncio.gather(*map(call, range(1600)))
        return seen
    seen = virtually(program)
    assert len(seen) == 1600 and min(seen) < 32 and seen[-1] == 32


@pytest.mark.parametrize('share', [.02, .05, .1])
def test_refusals_at_random_leave_most_of_the_level(share):
    "A level that falls with each refusal would end at a few calls at once; the server takes any number."
    async def program(clock):
        throttle, rng = Throttle(64, clock=clock), random.Random(1)
        async def call(n):
            while True:
                async with throttle() as slot:
                    await asyncio.sleep(.1)
                    if rng.random() >= share: return slot.success()
                    slot.refused()
        await asyncio.gather(*map(call, range(5000)))
        return throttle, clock()
    throttle, took = virtually(program)
    assert took < 1.6*5000/64*.1/(1 - share)
    settled = [limit for _, limit, _ in throttle.samples][5000:]
    assert sum(settled)/len(settled) > 48


def test_after_an_outage_the_level_is_soon_back():
    async def program(clock):
        throttle, seen = Throttle(64, clock=clock), []
        async def call(n):
            while True:
                async with throttle() as slot:
                    down = 5 <= clock() < 95
                    seen.append((clock(), down))
                    await asyncio.sleep(.01 if down else 1.)
                    if down: slot.refused()
                    else: return slot.success()
        await asyncio.gather(*map(call, range(1500)))
        return throttle, seen, clock()
    throttle, seen, took = virtually(program)
    assert took < 95 + LONGEST_OWN_PAUSE + 2*1500/64 and sum(down for _, down in seen) < 400
    assert min(t for t, limit, _ in throttle.samples if t > 95 and limit == 64) < 95 + LONGEST_OWN_PAUSE + 12


def test_nothing_is_sent_in_a_pause():
    async def program(clock):
        throttle, server = Throttle(16, clock=clock), Server(clock, lambda t: 3, wait=10.)
        await work(throttle, server, 60)
        return server.log
    log = virtually(program)
    refused = [t for t, served, _ in log if not served]
    assert refused
    for t in refused: assert not [a for a, _, _ in log if t + .05 + 1e-6 < a < t + 10.05 - 1e-6]


def test_one_decrease_for_a_burst():
    async def program(clock):
        throttle = Throttle(16, clock=clock)
        async def call():
            async with throttle() as slot:
                await asyncio.sleep(random.Random(throttle.in_flight).uniform(1., 2.))
                slot.refused()
        await asyncio.gather(*(call() for _ in range(16)))
        return throttle
    throttle = virtually(program)
    assert throttle.limit == 12


def test_calls_are_let_in_in_order():
    async def program(clock):
        throttle, order = Throttle(2, clock=clock), []
        async def call(n):
            async with throttle() as slot:
                order.append(n)
                await asyncio.sleep(1.)
                slot.success()
        await asyncio.gather(*map(call, range(20)))
        return order
    assert virtually(program) == list(range(20))


@pytest.mark.parametrize('seed', range(5))
def test_cancelled_calls_leave_no_slot_behind(seed):
    async def program(clock):
        throttle, rng, done = Throttle(4, clock=clock), random.Random(seed), []
        async def call(n):
            async with throttle() as slot:
                await asyncio.sleep(rng.uniform(.1, 1.))
                slot.success(); done.append(n)
        tasks = [asyncio.create_task(call(n)) for n in range(100)]
        async def trouble():
            for task in rng.sample(tasks, 60):
                await asyncio.sleep(rng.choice([0., .05]))
                task.cancel()
        await trouble()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with throttle(): pass
        return throttle, done, sum(task.cancelled() for task in tasks)
    throttle, done, cancelled = virtually(program)
    assert throttle.in_flight == 0 and len(done) + cancelled == 100


def test_a_call_that_is_cancelled_as_it_is_let_in_gives_its_slot_back():
    async def program(clock):
        throttle, ran = Throttle(1, clock=clock), []
        async def hold():
            async with throttle(): await asyncio.sleep(1.)
            second.cancel()                                          # it has just been let in, and has not run yet
        async def call(n):
            async with throttle(): ran.append(n)
        first = asyncio.create_task(hold())
        await asyncio.sleep(0)
        second, third = asyncio.create_task(call(2)), asyncio.create_task(call(3))
        await asyncio.gather(first, second, third, return_exceptions=True)
        return throttle.in_flight, ran
    assert virtually(program) == (0, [3])


def test_an_error_in_the_block_frees_the_slot_and_teaches_nothing():
    async def program(clock):
        throttle = Throttle(8, clock=clock)
        before = throttle.state
        for _ in range(3):
            with pytest.raises(OSError):
                async with throttle(): raise OSError
        return throttle.in_flight, throttle.state == before
    assert virtually(program) == (0, True)


def test_the_time_of_day_does_not_matter(monkeypatch):
    "With a clock of the machine that runs backwards everything goes on."
    monkeypatch.setattr(time, 'time', iter(range(10**9, 0, -3600)).__next__)
    async def program():
        throttle = Throttle(4, requests_per_minute=60_000)
        for n in range(20):
            async with throttle() as slot: slot.success() if n % 5 else slot.refused(.001)
        return throttle.in_flight
    assert asyncio.run(program()) == 0


@pytest.mark.parametrize('caps', [{'requests_per_minute': 90}, {'tokens_per_minute': 9000}])
def test_caps_hold_in_every_minute(caps):
    async def program(clock):
        throttle, server = Throttle(50, clock=clock, **caps), Server(clock, lambda t: 1000)
        await work(throttle, server, 300, tokens=100.)
        return [t for t, _, _ in server.log], clock()
    starts, took = virtually(program)
    assert max(sum(start <= t < start + 60 - 1e-6 for t in starts) for start in starts) <= 90
    assert took < 300/90*60 + 3                                     # and what is allowed is used


@given(amounts=st.lists(st.floats(.1, 500), min_size=1, max_size=60), gaps=st.lists(st.floats(0, 30), min_size=60, max_size=60), cap=st.floats(100, 10_000))
@settings(max_examples=200, deadline=None)
def test_a_pace_lets_through_no_more_than_its_cap_and_one_more(amounts, gaps, cap):
    pace, now, sent = Pace(cap), 0., []
    for amount, gap in zip(amounts, gaps):
        now = max(now + gap, pace.free)
        pace = book(pace, now, amount)
        sent.append((now, amount))
    for start, _ in sent:
        inside = [amount for t, amount in sent if start <= t < start + 60]
        assert sum(inside[:-1]) <= cap*(1 + 1e-9) + 1e-6


@given(events=st.lists(st.tuples(st.booleans(), st.floats(0, 2), st.floats(0, 5), st.one_of(st.none(), st.floats(0, 200))), max_size=200), ceiling=st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_the_level_stays_between_one_and_the_ceiling(events, ceiling):
    limit, now = Limit(ceiling), 0.
    for served, gap, age, wait in events:
        now += gap
        before = limit
        limit = after_success(limit) if served else after_throttle(limit, now, now - age, wait)
        assert 1 <= limit.level <= ceiling
        assert limit.resume <= max(before.resume, now + max(LONGEST_PAUSE, wait or 0))
        if not served and now - age <= before.decreased: assert limit.level == before.level


@pytest.mark.parametrize('headers, expected', [
    ({'retry-after': '3'}, 3.), ({'retry-after': ' 3 '}, 3.), ({'retry-after': '0.25'}, .25), ({'retry-after-ms': '1500', 'retry-after': '9'}, 1.5), ({}, None),
    ({'retry-after': '-5'}, None), ({'retry-after': '1e400'}, None), ({'retry-after': '-1e400'}, None), ({'retry-after-ms': '-1', 'retry-after': '2'}, 2.), ({'retry-after': '1e9'}, LONGEST_PAUSE), ({'retry-after': 'nan'}, None), ({'retry-after': 'later'}, None), ({'retry-after': ''}, None),
    ({'retry-after': 'Wed, 21 Oct 2015 07:28:10 GMT', 'date': 'Wed, 21 Oct 2015 07:28:00 GMT'}, 10.),
    ({'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT', 'date': 'Wed, 21 Oct 2015 07:28:10 GMT'}, 0.),
    ({'retry-after': 'Wed, 21 Oct 2099 07:28:00 GMT', 'date': 'Wed, 21 Oct 2015 07:28:00 GMT'}, LONGEST_PAUSE),
    ({'retry-after': 'Wed, 21 Oct 2015 07:28:10 GMT'}, None), ({'retry-after': 'Wed, 21 Oct 2015 07:28:10 GMT', 'date': 'yesterday'}, None)])
def test_retry_after(headers, expected): assert retry_after(headers) == expected


@pytest.mark.parametrize('options', [{'concurrency': 0}, {'requests_per_minute': 0}, {'tokens_per_minute': -1}, {'requests_per_minute': math.nan}])
def test_senseless_limits_are_refused(options):
    with pytest.raises(ValueError): Throttle(**options)
