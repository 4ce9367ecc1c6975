"Stages of a run overlap: rows are checked while others are written, and rows written while seeds of others are asked for."
import json
from collections import Counter

import pytest
from scripted_teacher import ScriptedTeacher
from synthlab.correct.choices import Correction
from synthlab.decode.choices import FewGen
from synthlab.prompt.prompts import FewShotPrompts
from synthlab.run.corrected_writer import CorrectedWriter
from synthlab.run.generate import generate
from synthlab.run.targen import TarGEN
from synthlab.tasks.strategy import Strategy
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.budget import Budget
from synthlab.teacher.requests import Answer

SST2 = load_task('sst2')


def targen(teacher, n=60, **options): return TarGEN(teacher, SST2, correction=Correction(), **({'contexts': 3, 'seeds_per_call': 4} | options)).generate(n)


def places(teacher, step): return [place for place, asked in enumerate(teacher.asked) if asked.step == step]


def asked_for(teacher): return Counter(asked.key for asked in teacher.asked)


def test_rows_are_written_and_checked_while_seeds_are_asked_for():
    teacher = ScriptedTeacher(order=1, window=8)
    targen(teacher)
    seeds, written, checked = (places(teacher, step) for step in ('seeds', 'write', 'correct'))
    assert written[0] < seeds[-1] and checked[0] < seeds[-1] and checked[0] < written[10]


def test_few_shot_rows_are_checked_while_others_are_written():
    teacher = ScriptedTeacher(order=1, window=4)
    run = generate(FewGen(), SST2, teacher, 40, prompts=FewShotPrompts(shots=0), wrap=lambda writer: CorrectedWriter(writer, Correction(), teacher, Strategy(SST2)))
    assert sum(row['status'] == 'accepted' for group in run for row in group.rows) == 40
    assert places(teacher, 'correct')[0] <= 8 and places(teacher, 'text')[-1] > 60


@pytest.mark.parametrize('faults', [0, .3])
def test_the_order_of_answers_changes_neither_rows_nor_calls(faults):
    teachers = [ScriptedTeacher(order=order, window=window, faults=faults) for order, window in ((None, 1), (1, 3), (2, 8), (3, 64))]
    rows = {json.dumps(targen(teacher).rows, sort_keys=True) for teacher in teachers}
    assert len(rows) == 1 and all(asked_for(teacher) == asked_for(teachers[0]) for teacher in teachers)
    assert max(asked_for(teachers[0]).values()) == 1


@pytest.mark.parametrize('barren', [0, 3, 20])
def test_a_teacher_that_has_no_more_seeds_is_asked_for_none_in_vain(barren):
    "Calls for seeds are made ahead only if those before cannot end the search."
    def script(asked):
        if asked.step == 'seeds' and asked.request.name >= barren: return {'seeds': ['the same again']*4}
    teachers = [ScriptedTeacher(script, order=order, window=window) for order, window in ((None, 1), (1, 16))]
    results = [targen(teacher) for teacher in teachers]
    assert results[0].rows == results[1].rows and asked_for(teachers[0]) == asked_for(teachers[1])
    assert results[0].steps['seeds']['calls'] == sum(teachers[0].calls(repairs=True)[step] for step in ['seeds']) < 20


@pytest.mark.parametrize('max_calls, n', [(1, 8), (2, 8), (9, 60), (40, 60), (41, 60), (100, 60), *(pytest.param(most, 60, marks=pytest.mark.long) for most in (1, 2))])
def test_a_limit_of_calls_is_kept_and_what_was_paid_for_is_used_later(max_calls, n):
    whole, calls, teacher, sessions = targen(ScriptedTeacher(), n), {}, ScriptedTeacher(order=1, window=8), 0
    while True:
        before = len(teacher.asked)
        found, sessions = targen(teacher, n, calls=calls, budget=Budget(max_calls=max_calls)), sessions + 1
        assert len(teacher.asked) - before <= max_calls
        if not found.stopped: break
        assert len(teacher.asked) - before == max_calls
    assert found.rows == whole.rows and max(asked_for(teacher).values()) == 1


def test_a_limit_leaves_no_row_that_was_paid_for_and_not_checked():
    teacher = ScriptedTeacher(order=1, window=8)
    run = generate(FewGen(), SST2, teacher, 60, prompts=FewShotPrompts(shots=0), spending=Budget(max_calls=41),
                   wrap=lambda writer: CorrectedWriter(writer, Correction(), teacher, Strategy(SST2)))
    with pytest.warns(UserWarning, match='max_calls = 41 is spent'): rows = [row for group in run for row in group.rows]
    assert len(rows) == 20 and len(teacher.prompts('correct')) == 20 and all(row['label_corrected'] for row in rows)


@pytest.mark.parametrize('dies_after', [5, 30, 70])
def test_a_teacher_that_dies_loses_nothing_that_was_answered(dies_after):
    whole, calls, dying = targen(ScriptedTeacher()), {}, ScriptedTeacher(order=1, window=8, dies_after=dies_after)
    with pytest.raises(TeacherError): targen(dying, calls=calls)
    stored, after = set(calls), ScriptedTeacher(order=2, window=8)
    assert targen(after, calls=calls).rows == whole.rows and not stored & asked_for(after).keys()


def test_a_malformed_check_is_mended_in_its_chain():
    def script(asked):
        if asked.step == 'correct' and not asked.repair: return Answer('I cannot say', prompt_tokens=1, completion_tokens=1)
    teacher = ScriptedTeacher(script, order=1, window=8)
    found = targen(teacher, 12)
    assert len(found.accepted) == 12 and all(row['label_corrected'] for row in found.accepted) and found.calls['corrections'] == 2*len(found.rows)
