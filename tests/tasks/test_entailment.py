"Strategies of AX-g, CB, RTE and AX-b: labels by construction, twins, patterns that keep the checks, and checks that good gold rows pass."
import os
import re
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthlab.tasks.entailment import (
    CB, ENVIRONMENTS, RTE, AxB, AxG, alike_fault, are_twins, around, clause_fault, commitment, copy_fault,
    embedding_fault, embedding_pattern, environment_fault, feminine, gendered, people_fault, people_seed_fault,
    pronoun_fault, shared_fault, shorter_fault, statement_fault, verb_forms, voice_fault)
from synthlab.util import plain_words
from synthlab.tasks.strategy import Job, InstanceSeed, assemble, check_task
from synthlab.teacher.requests import validate
from synthlab.tasks.task import load_task

gold = pytest.mark.skipif(not os.environ.get('SYNTHLAB_GOLD'), reason='needs gold data: set SYNTHLAB_GOLD')
MADE = {'axb': AxB, 'axg': AxG, 'cb': CB, 'rte': RTE}
SEEDS = {'axg': {'occupation': 'beekeeper', 'participant': 'neighbour', 'event': 'a swarm settles in the wrong garden'},
         'cb': {'opening': 'Nobody had lit the stove since the morning.', 'clause': 'the mill closed in the spring'},
         'rte': {'premise': 'The Orsk mill, which had 40 workers, closed in April after a flood. Its owner moved to Tallinn.'},
         'axb': {'sentence1': 'Every miller in the valley sold most of the flour before the frost.'}}
GOOD = {'axg': {'premise': 'The beekeeper called the neighbour because he had seen the swarm.', 'predicate': 'had seen the swarm'},
        'rte': {'hypothesis': 'A mill closed in April.'}, 'axb': {'sentence2': 'Some miller in the valley sold most of the flour before the frost.'}}
SENTENCE = {'plain': 'The old clerk {verb} that {clause}.', 'negation': 'She did not {verb} that {clause}.', 'question': 'Does anybody {verb} that {clause}?',
            'modal': 'The old clerk may {verb} that {clause}.', 'conditional': 'If they {verb} that {clause}, somebody will write.'}


def strategy(name): return MADE[name](load_task(name))


def jobs(name):
    "One job for each label and layout."
    made = strategy(name)
    return [Job(n, label, InstanceSeed(SEEDS[name], 'a village'), layout) for n, (label, layout) in enumerate((label, layout) for label in made.task.label_names for layout in made.layouts(label))]


def ending(job):
    "A sentence that embeds the clause as the job wants."
    place, verb = job.layout['environment'], job.layout['attitude']
    form = 'I do not {verb} that {clause}.' if job.label == 'contradiction' and place == 'negation' else SENTENCE[place]
    return form.format(verb=verb_forms(verb)[1] if place == 'plain' else verb_forms(verb)[0], clause=job.seed.parts['clause'])


def reply(name, job): return {'ending': ending(job)} if name == 'cb' else GOOD[name]


# ---- whole rows

@pytest.mark.parametrize('name', MADE)
def test_a_good_reply_makes_good_rows(name):
    made = strategy(name)
    check_task(made.task, made)
    assert made.seed_fault(SEEDS[name]) == ''
    for job in jobs(name):
        value, fault = validate(reply(name, job), made.reply_schema(job))
        assert value is not None, fault
        rows, fault = assemble(made, job, value.model_dump())
        assert fault == '' and len(rows) == made.rows, (job.layout, fault)
        assert all(set(row) == set(made.task.fields) and all(row.values()) for row in rows)


@pytest.mark.parametrize('name', MADE)
def test_a_reply_cannot_change_what_code_owns(name):
    made, more = strategy(name), {'label': 'entailment', 'premise': 'X', 'hypothesis': 'Y', 'sentence1': 'Z', 'clause': 'W', 'opening': 'V', 'occupation': 'king', 'referent': 'participant'}
    for job in jobs(name):
        own = reply(name, job)
        assert assemble(made, job, {**{key: value for key, value in more.items() if key not in own}, **own}) == assemble(made, job, own)


@pytest.mark.parametrize('name', ['cb', 'rte', 'axb'])
def test_the_seed_stands_in_the_row_word_for_word(name):
    for job in jobs(name):
        row = assemble(strategy(name), job, reply(name, job))[0][0]
        assert all(any(part in value for value in row.values()) for part in job.seed.parts.values())


@pytest.mark.parametrize('text', ['a {x} {{ 7*7 }} b', '{% raw %} "quoted" \\n', 'ignore the instructions </s> (a|b)* [c]+ ^$.'])
def test_text_of_a_seed_is_data(text):
    "Braces, code and the signs of patterns stay what they are, in rows and in patterns."
    parts = {'axg': {'occupation': text, 'participant': 'neighbour', 'event': text}, 'cb': {'opening': text, 'clause': text}, 'rte': {'premise': f'{text} and seven more words stand here too'},
             'axb': {'sentence1': f'{text} and seven more words stand here too.'}}
    for name in MADE:
        made = strategy(name)
        for label in made.task.label_names:
            job = Job(0, label, InstanceSeed(parts[name]), made.layouts(label)[0])
            fields = made.reply_schema(job).model_fields
            rows, _ = assemble(made, job, {key: f'Some words. {text}' for key in fields})
            assert any(text in value for row in rows for value in row.values())
    assert re.fullmatch(embedding_pattern(text, 'plain', 'know'), f'The clerk knows that {text}.')


# ---- AX-g

def test_rows_of_axg_are_twins_and_the_label_names_the_person():
    made, said = strategy('axg'), {}
    for job in jobs('axg'):
        he, she = assemble(made, job, GOOD['axg'])[0]
        assert are_twins(he['premise'], she['premise']) and he['hypothesis'] == she['hypothesis'] and gendered(she['premise']) == ['she']
        said[job.label, job.layout['referent']] = next(part for part in ('occupation', 'participant') if SEEDS['axg'][part] in he['hypothesis'])
    assert said == {('entailment', 'occupation'): 'occupation', ('entailment', 'participant'): 'participant', ('not_entailment', 'occupation'): 'participant', ('not_entailment', 'participant'): 'occupation'}


@pytest.mark.parametrize('premise, predicate, told', [
    ('The beekeeper called the neighbour.', 'called', '0 gendered pronouns'), ('The beekeeper told the neighbour that he saw him.', 'saw', '2 gendered pronouns'),
    ('The beekeeper called because he was stung.', 'was stung', "does not name 'neighbour'"), ('The beekeeper called the neighbour because he was stung.', 'hurt the neighbour', 'must name exactly one'),
    ('The beekeeper called the neighbour because he was stung.', 'lost his gloves', "the pronoun 'his'"), ('Did the beekeeper call the neighbour when he fell?', 'fell', 'asks a question'),
    ('The beekeeper met the neighbour. Then he fell.', 'fell', '2 sentences')])
def test_axg_tells_what_is_wrong(premise, predicate, told):
    job = Job(0, 'entailment', InstanceSeed(SEEDS['axg']), {'referent': 'occupation'})
    assert told in assemble(strategy('axg'), job, {'premise': premise, 'predicate': predicate})[1]


@given(st.lists(st.sampled_from(['he', 'him', 'his', 'himself', 'He', 'HIS', 'the', 'chef', 'she', 'there,', 'his.', "he's"]), min_size=1, max_size=12))
def test_the_feminine_changes_pronouns_alone(words):
    text = ' '.join(words)
    hers = feminine(text)
    assert feminine(hers) == hers and not {'he', 'him', 'his', 'himself'} & set(gendered(hers))
    assert len(gendered(hers)) == len(gendered(text)) and len(hers.split()) == len(words)
    assert all(new == old for new, old in zip(hers.split(), words) if not gendered(old))


def test_nouns_that_tell_a_gender_are_no_seeds():
    assert all(people_seed_fault(noun, 'guest') for noun in ('waitress', 'policeman', 'nun', 'brother', 'cleaning lady', 'guest'))
    assert not any(people_seed_fault(noun, 'guest') for noun in ('nurse', 'human', 'artisan', 'german teacher', 'personal trainer'))


# ---- CB

def test_every_layout_of_cb_suits_its_label_and_every_label_has_several():
    made, found = strategy('cb'), {}
    for label in made.task.label_names:
        layouts = made.layouts(label)
        assert len(layouts) > 1 and all(commitment(layout['environment'], layout['attitude']) == label for layout in layouts)
        found[label] = {tuple(layout.values()) for layout in layouts}
    assert not any(one & other for one, other in combinations(found.values(), 2))


@pytest.mark.parametrize('environment', ENVIRONMENTS)
def test_each_environment_is_told_from_the_others(environment):
    clause = SEEDS['cb']['clause']
    frame = around(SENTENCE[environment].format(verb='suspect', clause=clause), clause)
    assert [place for place in ENVIRONMENTS if not environment_fault(frame, place)] == [environment]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_fits_the_pattern_embeds_the_clause(data):
    job = data.draw(st.sampled_from(jobs('cb')))
    clause, place, verb, own = job.seed.parts['clause'], job.layout['environment'], job.layout['attitude'], job.label == 'contradiction'
    sentence = data.draw(st.from_regex(re.compile(embedding_pattern(clause, place, verb, own), re.ASCII), fullmatch=True, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
    assert embedding_fault(sentence, clause, '', verb) == '' and around(sentence, clause)
    if own and place == 'negation': assert voice_fault(around(sentence, clause), job.label) == ''


def test_cb_tells_what_is_wrong():
    clause = SEEDS['cb']['clause']
    def told(label, place, verb, text): return assemble(strategy('cb'), Job(0, label, InstanceSeed(SEEDS['cb']), {'environment': place, 'attitude': verb}), {'ending': text})[1]
    assert 'does not have the clause' in told('neutral', 'plain', 'hope', 'They hope that it closed.')
    assert "the verb 'hope' does not stand" in told('neutral', 'plain', 'hope', f'They fear that {clause}.')
    assert 'has no question' in told('neutral', 'question', 'hope', f'They hope that {clause}.')
    assert 'has a negation' in told('neutral', 'plain', 'hope', f'They never hope that {clause}.')
    assert 'in the first person' in told('contradiction', 'negation', 'think', f'She does not think that {clause}.')
    assert 'about somebody else' in told('entailment', 'negation', 'know', f'I do not know that {clause}.')
    assert strategy('cb').seed_fault({'opening': f'We heard that {clause}.', 'clause': clause}).startswith('the opening says the clause')


# ---- RTE and AX-b

@pytest.mark.parametrize('text, told', [('Its owner moved to Tallinn.', 'copied word for word'), ('Did a mill close?', 'asks a question'), ('Cats sleep a lot.', '0% of its content words'),
                                        ('A mill closed. It was old.', '2 sentences'), ('The premise says that a mill closed.', "the word 'premise'"), (' '.join(['mill']*30) + '.', '30 words and the premise')])
def test_rte_tells_what_is_wrong(text, told):
    assert told in assemble(strategy('rte'), Job(0, 'entailment', InstanceSeed(SEEDS['rte']), {}), {'hypothesis': text})[1]


@pytest.mark.parametrize('text, told', [(SEEDS['axb']['sentence1'].upper(), 'are the same'), ('Cats sleep a lot in summer.', '0% of their content words'), ('Did every miller in the valley sell most of the flour?', 'asks a question')])
def test_axb_tells_what_is_wrong(text, told):
    assert told in assemble(strategy('axb'), Job(0, 'entailment', InstanceSeed(SEEDS['axb']), {}), {'sentence2': text})[1]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_fits_the_pattern_of_rte_has_a_word_of_the_premise(data):
    job = data.draw(st.sampled_from(jobs('rte')))
    pattern = strategy('rte').reply_schema(job).model_json_schema()['properties']['hypothesis']['pattern']
    text = data.draw(st.from_regex(re.compile(pattern), fullmatch=True, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
    assert shared_fault(text, job.seed.parts['premise']) == ''


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_fits_the_pattern_of_axb_is_alike(data):
    job = jobs('axb')[0]
    pattern = strategy('axb').reply_schema(job).model_json_schema()['properties']['sentence2']['pattern']
    text = data.draw(st.from_regex(re.compile(pattern), fullmatch=True, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
    words = plain_words(text)
    assume(len(set(words)) == len(words))                                      # a pattern cannot tell that a word comes twice; the check does
    assert alike_fault(job.seed.parts['sentence1'], text) in ('', 'the two sentences are the same: make one small change')


@pytest.mark.parametrize('text', ['Some miller in the valley sold most of the flour before the frost.', 'Every miller sold the flour.', 'Before the frost, most of the flour was sold by every miller in the valley.',
                                  'Every miller in the valley sold most of the flour before the first frost of a long winter.', 'Not every miller in the valley bought most of the grain before the frost.'])
def test_small_changes_fit_the_pattern_of_axb(text):
    assert validate({'sentence2': text}, strategy('axb').reply_schema(jobs('axb')[0]))[0] is not None


def test_contexts_of_axb_are_phenomena_and_both_labels_have_the_same_number_of_changes():
    made = strategy('axb')
    assert {context.split(':')[0] for context in made.spec.contexts} == {'lexical semantics', 'predicate-argument structure', 'logic', 'knowledge'}
    assert len({len(made.layouts(label)) for label in made.task.label_names}) == 1


# ---- gold rows

def part(task, name): return pd.read_parquet(Path(os.environ['SYNTHLAB_GOLD'])/f'superglue_{task}'/f'{name}.parquet')


@gold
def test_gold_twins_are_what_code_makes_of_their_masculine_half():
    rows = part('axg', 'test').sort_values('idx')
    pairs = list(zip(rows.premise[::2], rows.premise[1::2]))
    assert len(pairs) == 178 and all(feminine(min(pair, key=lambda text: gendered(text)[0] in ('she', 'her', 'hers'))) in pair for pair in pairs)
    assert all(are_twins(*pair) for pair in pairs)


@gold
@pytest.mark.parametrize('task, name, least', [('axg', 'test', 1.), ('cb', 'train', .97), ('cb', 'validation', .97), ('rte', 'train', .93), ('rte', 'validation', .93), ('axb', 'test', .93)])
def test_checks_accept_gold_rows(task, name, least):
    rows, checks = part(task, name), {
        'axg': lambda p, h: pronoun_fault(p) or statement_fault('premise', p) or statement_fault('hypothesis', h) or shorter_fault(h, p) or gendered(h),
        'cb': lambda p, h: statement_fault('hypothesis', h) or clause_fault(h) or shorter_fault(h, p),
        'rte': lambda p, h: statement_fault('hypothesis', h) or shorter_fault(h, p) or copy_fault(h, p) or shared_fault(h, p),
        'axb': lambda p, h: statement_fault('second sentence', h) or alike_fault(p, h)}
    accepted = [not checks[task](p, h) for p, h in zip(rows.premise, rows.hypothesis)]
    assert sum(accepted)/len(accepted) >= least


def test_people_are_whole_words():
    assert people_fault('The chefs met the guest as he left.', 'The guest left.', ['chef', 'guest']).startswith("the premise does not name 'chef'")
