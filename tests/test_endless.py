"No text of a teacher and no task file makes a program work for ever: patterns take linear time, templates and checks are refused by name."
import threading
import time

import pytest
from synthlab.measure.entities import RuleExtractor
from synthlab.tasks.strategy import check_task, kind_of, Strategy
from synthlab.tasks.task import Task
from synthlab.teacher.requests import _listed
from synthlab.util import render

READERS = {'items': _listed, 'kind': kind_of, 'names': lambda text: RuleExtractor()([text]), 'names uncased': lambda text: RuleExtractor(False)([text])}
HOSTILE = [('items', '1. a', ' ', 'b'), ('items', '- ', ' ', ''), ('kind', "'", "\\'", ''), ('kind', '"', '\\"', ''), ('kind', '', "'a", ''),
           ('names', '', 'a-', ''), ('names', '', "a'", ''), ('names', '', 'a&', ''), ('names', '', ': Abc x ', ''), ('names', '', 'the Cap is here ', ''),
           ('names uncased', '', 'A&', ''), ('names uncased', '', "A'a", '')]


def seconds(read, text):
    "The shortest of three times, as another program may be busy."
    def once():
        start = time.perf_counter()
        read(text)
        return time.perf_counter() - start
    return min(once() for _ in range(3))


@pytest.mark.parametrize('reader, before, part, after', HOSTILE, ids=[f'{name} {part!r}' for name, _, part, _ in HOSTILE])
def test_reading_takes_time_in_proportion_to_the_text(reader, before, part, after):
    def text(size): return before + part*(size//len(part)) + after
    READERS[reader](text(100))
    short, long = (seconds(READERS[reader], text(size)) for size in (10_000, 40_000))
    assert long < 8*short + .05


@pytest.mark.parametrize('fault, kind', [
    ("the word 'O\\'Hara' has 31.5 marks, the writer's own \"x\" 2", "the word ... has ... marks, the writer's own ... ..."),
    ("an open ' and \"12\" then 'x'y 3 and \"4", "an open ' and ... then 'x'y ... and \"..."), ("'a\\", "'a\\"), ("'1' \"'2'\" '", "... ... '")])
def test_faults_are_counted_by_kind(fault, kind): assert kind_of(fault) == kind


BOMBS = {
    'a power': ('9**(9**9) > 1', '9 ** 387420489 is too large'), 'a long text': ('"x" * 10**9 == ""', "'x' * 1000000000 is too large"),
    'a list': ('([1]*10**9)|length > 1', '[1] * 1000000000 is too large'), 'a filter': ('"a"|center(10**9) == ""', "center('a', 1000000000) is too large"),
    'a method': ('"a".ljust(10**9) == ""', "ljust('a', 1000000000) is too large"), 'a format': ('"%9999999999d" % 1 == ""', "format('%9999999999d', 1) is too large"),
    'another format': ('"{:99999999}".format(1) == ""', "format('{:99999999}', 1) is too large"), 'filler': ('lipsum(10**7) == ""', "'lipsum' is undefined"),
    'all pairs': ('range(9999)|select("in", range(9999)|list)|list|length > 1', 'is too large'), 'replacements': ('("a"*10000)|replace("a", "b"*10000) == ""', 'is too large')}
LOOPS = {
    'nested loops': ('{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}', 'a loop of more than 100,000 turns'),
    'recursion': ('{% for a in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}', 'a recursive loop is not allowed'),
    'doubling': ('{% set s = namespace(t="ab") %}{% for n in range(90) %}{% set s.t = s.t ~ s.t %}{% endfor %}', 'is too large'),
    'blocks': ('{% set t %}ab{% endset %}' + '{% set t %}{{ t }}{{ t }}{% endset %}'*40, 'is too large'),
    'searches': ('{% set r = range(99999)|list %}{% for a in r %}{{ -1 in r }}{% endfor %}', 'is too large'),
    'macros': ('{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}', 'recursion')}


def asked_by(targen='', **keys):
    "A task with a template, or a table of TarGEN."
    return Task(**{'name': 'small', 'labels': ['yes', 'no'], 'instruction': 'Write {{ verbalisation }}.'} | keys | ({'targen': targen} if targen else {}))


@pytest.mark.parametrize('template, said', [*LOOPS.values(), *((f'{{{{ {that} }}}}', said) for that, said in BOMBS.values())], ids=[*LOOPS, *BOMBS])
def test_a_template_cannot_work_for_ever(template, said):
    with pytest.raises(ValueError, match='instruction') as refused: asked_by(instruction=template)
    assert said in str(refused.value)


@pytest.mark.parametrize('that, said', BOMBS.values(), ids=BOMBS)
def test_a_check_cannot_work_for_ever(that, said):
    table = {'contexts': 'a place', 'seeds': 'a word', 'seed': {'word': 'a word'}, 'write': {'text': 'the text'}, 'checks': [{'that': that, 'message': 'no'}]}
    task = asked_by(table, labels={'yes': 'It is so.', 'no': 'It is not so.'})
    with pytest.raises(ValueError, match='checks') as refused: check_task(task, Strategy(task))
    assert said in str(refused.value)


def test_work_is_counted_in_every_thread_and_anew_for_each_template():
    said = []
    def fill():
        for _ in range(30): said.append(render('{% for n in range(9000) %}{{ n }}{% endfor %}') != '')
        try: render('{{ 9**(9**9) }}')
        except ValueError as error: said.append('too large' in str(error))
    threads = [threading.Thread(target=fill) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert said == [True]*93


def test_usual_templates_are_filled():
    words = ['ox', 'a', 'cow']
    assert render('{% for w in words if w|length > 1 %}{{ loop.index }} {{ w|upper }}{{ ", " if not loop.last }}{% endfor %}', words=words) == '1 OX, 2 COW'
    assert render('{{ "x"*3 ~ 2**10 }} {{ "%.2f" % 0.5 }} {{ "{:>5}".format(7) }} {{ "b" in "abc" }} {{ words|join("; ") }}', words=words) == 'xxx1024 0.50     7 True ox; a; cow'
    assert len(render('{{ text }} {{ text|upper }} {{ text.replace("a", "bb") }}', text='a'*100_000)) == 400_002
