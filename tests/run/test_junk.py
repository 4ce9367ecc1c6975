"What a chat model says around a text, or in its place: 100 answers and more, each cleaned or refused with a reason, by whatever way it comes."
import json
import time

import pytest
from synthlab.answers import Cleaned, answer_rules, clean_answer, left_by, no_text, visible
from synthlab.cli.runs import ends
from synthlab.correct.questions import correction_schema
from synthlab.decode.loop import Sampling
from synthlab.measure.report import _counts_view
from synthlab.prompt.records import attributes_schema, list_schema
from synthlab.run.recipe import Recipe
from synthlab.run.rows import CUT, Judged, judge_text
from synthlab.store.runs import open_run, read_counts, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TextTeacher
from synthlab.teacher.requests import Answer, Request, most_characters, read_reply

TASK = load_task('ag_news')
TEXT = 'Oil prices fell to a new low on Monday.'
CUE = TASK.cue.rstrip(': ')

AROUND = {
    'reasoning': ['<think>A headline is wanted.</think>{}', '<think>\n\n</think>\n\n{}', 'A headline, I think.\n</think>\n{}', '<thinking>Hm.</thinking> {}', '[THINK]Hm.[/THINK]{}',
                  '<reasoning>Business news.</reasoning>\n{}', '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{}'],
    'special token': ['<|im_start|>assistant\n{}<|im_end|>', '{}</s>', '{}<|eot_id|>', '[/INST] {}', '{}<|im_end|>\n<|im_start|>user\nAnother one, please.', '<s>{}</s>',
                      '<start_of_turn>model\n{}<end_of_turn>', '{}<|endoftext|>The next document begins here.'],
    'role': ['Assistant: {}', '**Assistant:** {}', 'ChatGPT: {}'],
    'preamble': ['Sure! Here is a short news text: {}', 'Sure, here’s a text:\n\n{}', "Certainly! Here's one example of a business headline:\n{}", 'Of course!\n\n{}', "Here is a news article:\n\n{}",
                 'Here are two sentences about oil:\n{}', 'Absolutely! Here is a text for you: {}', "I'd be happy to help! Here is a headline: {}", 'Okay, here is the text you asked for: {}',
                 'Great! Here is your article:\n{}', "I can help with that. Here is a text: {}", 'Below is a realistic news item about business:\n\n{}', "Got it! Here's a sample text:\n{}",
                 'As requested, here is a news story: {}', 'Sure thing! This is a text about oil: {}', 'Here is a text with the attributes you listed:\n{}', 'Understood.\n{}'],
    'code fence': ['```\n{}\n```', '```text\n{}\n```', '```markdown\n{}\n```\nThis is short.', '```\n{}', '`{}`', '~~~\n{}\n~~~'],
    'tags': ['<answer>{}</answer>', '<text>\n{}\n</text>', '<output>{}</output>', '<article>{}</article>'],
    'cue': [CUE + ': {}', f'**{CUE}:** {{}}', f'**{CUE}**: {{}}', f'**{CUE}**\n{{}}', f'{CUE} - {{}}', f'{CUE} – {{}}', f'### {CUE}\n{{}}', f'### {CUE}: {{}}', f'{CUE} 1: {{}}', f'_{CUE}_: {{}}',
            f'{CUE.upper()}: {{}}', f'[{CUE}] {{}}', 'Answer: {}', '**Output:** {}', 'Response: {}', 'Text: {}', f'"{CUE}": {{}}'],
    'label': ['{}\n\nLabel: World', '{}\n**Category:** World', 'Category: Sports\n{}', '{}\nTopic: Sci/Tech', '**Label:** Business\n\n{}'],
    'list mark': ['1. {}', '- {}', '* {}', '• {}', '1) {}'],
    'further texts': ['1. {}\n2. Shares rose.\n3. Banks closed.', '**1.** {}\n**2.** Shares rose.'],
    'closing': ['{}\n\nLet me know if you would like more!', '{} Let me know if you would like another one.', '{}\n\nI hope this helps!', '{}\n\nWould you like me to write another?', '{}\n\n(Note: this is made up.)',
                '{}\n\n*Note: All names are invented.*', '{}\n\nFeel free to ask for more.', '{}\n\nThis text reflects the business section.', '{}\n\n(9 words)', '{}\n\nIs there anything else you need?',
                "{} Would you like me to write another one?", "{}\n\nIf you'd like a longer one, let me know."],
    'marks': ['**{}**', '__{}__'],
    'quotation marks': ['"{}"', '“{}”', "'{}'", '«{}»', '„{}“'],
    'JSON': ['{{"text": "{}', '{{"text": "{}", "tone": "dry"}}', '{{"text": "{}"}}', '["{}"]', '{{"headline": "{}"}}'],
    'escape sequence': ['\x1b[31m{}\x1b[0m', '\x1b]0;title\x07{}'], 'control character': ['\0{}', '{}\x07'], 'invisible character': ['\u200b{}\u200b', '\u202e{}', '\ufeff{}']}
INSTEAD = {
    'the answer is a refusal': ["I'm sorry, but I can't help with that.", 'I’m sorry, but I cannot assist with that request.', "I can't help with that.", 'Sorry, I cannot fulfill that request.',
        "I apologize, but I'm unable to generate this text.", 'Unfortunately, I am not able to create such content.', 'As an AI language model, I cannot have opinions on politics.',
        "I'm just an AI assistant and do not read the news.", 'I must decline.', 'I cannot generate content of that kind.', "I won't write hateful content.", 'This request violates my guidelines.',
        'It would not be appropriate for me to write such a text.', 'I am sorry, but as a large language model I am not able to write about this.', 'Lo siento, pero no puedo ayudar con eso.',
        'Es tut mir leid, aber dabei kann ich nicht helfen.', "Je suis désolé, mais je ne peux pas vous aider.", '抱歉，我无法提供帮助。', "Sure! As an AI assistant, I don't have access to news.", '"I can\'t help with that."',
        "<think>Is that allowed?</think>I'm sorry, but I can't help with that.", 'My apologies, but I cannot comply with this.'],
    'the answer is a question back': ['Could you please provide more details so I can write the text?', 'Please provide the text you would like me to rewrite.', 'Please share some examples so that I can help.'],
    'the answer is a question with its answer': ['**Question:** What is six times seven? **Answer:** 42', 'Question: What fell?\nAnswer: Oil.', '### Question: What fell?\n### Answer: Oil.', 'Q: What fell?\nA: Oil.'],
    'the answer is a placeholder': ['N/A', 'None', '[Your text here]', '[Company Name] said on Monday that its shares rose.', 'Lorem ipsum dolor sit amet, consectetur.', '...', 'TODO', 'Dear [Your Name], oil fell.'],
    'empty text': ['', ' \n ', '---', '"?!"', '—'],
    'empty text, besides invisible character': ['\u200b\u200b\u200b', '\u202e\u200f'], 'empty text, besides control character': ['\0\0'], 'empty text, besides escape sequence': ['\x1b[2J'],
    'empty text, besides reasoning': ['<think>I have to think about', '<think>Hm.</think>'], 'empty text, besides preamble': ['Sure! Here is a headline:\n', 'Certainly!\n\nHere is a text:\n\n'],
    'the text is not valid Unicode (half a surrogate pair)': ['half \ud83d of it']}
MESSY = [(kind, form.format(TEXT)) for kind, forms in AROUND.items() for form in forms]
LOST = [(reason, answer) for reason, answers in INSTEAD.items() for answer in answers]
NESTED = f'<think>Hm.</think>\n\nSure! Here is a text:\n\n```\n**{CUE}:** "\u200b{TEXT}"\n```\n\nLet me know if you would like more!'


def test_there_are_a_hundred(): assert len(MESSY) + len(LOST) >= 100 and not [text for text in (TEXT, f'{TEXT} {TEXT}') if judge_text(text, TASK) != Judged(text)]


@pytest.mark.parametrize('kind, answer', MESSY, ids=[f'{kind} {n}' for n, (kind, _) in enumerate(MESSY)])
def test_words_around_a_text_are_taken_away(kind, answer):
    found = judge_text(answer, TASK)
    assert (found.text, found.reason) == (TEXT, '') and kind in found.cleaned


@pytest.mark.parametrize('reason, answer', LOST, ids=[f'{reason} {n}' for n, (reason, _) in enumerate(LOST)])
def test_what_is_no_text_is_refused(reason, answer): assert judge_text(answer, TASK).reason == reason


def test_layers_are_taken_away_one_by_one():
    assert set(judge_text(NESTED, TASK).cleaned) == {'invisible character', 'reasoning', 'preamble', 'code fence', 'cue', 'quotation marks'}
    assert judge_text(NESTED, TASK).text == TEXT


HOSTILE = ['<think>', '<|', '<|a', '```\n', '1. ', '- ', '\n', '\n ', ' ', '**', '"', '[', '[your ', 'Question: ', '</think', "I'm sorry, ", 'here is a ', '<text>', 'let me know ', '\x1b', '\x1b]', '\x9b', '\u200d', '{"', '\\u0000', 'a. ', '`', '_', 'sure ']


@pytest.mark.parametrize('part', HOSTILE)
def test_no_text_keeps_the_patterns_busy(part):
    def seconds(size):
        text, start = part*(size//len(part)), time.perf_counter()
        judge_text(text, TASK), judge_text(f'1. {text}x', TASK), judge_text(f'```\n{text}x', TASK), judge_text(f'{text}x', TASK, cut_at=999)
        return time.perf_counter() - start
    seconds(100)
    assert min(seconds(40_000) for _ in range(3)) < 10*min(seconds(10_000) for _ in range(3)) + .1


class Says(TextTeacher):
    "A teacher that gives these answers in turn."

    def __init__(self, *answers): self.given = answers
    identity = {'name': 'says', 'revision': None}

    def token_bound(self, request): return 10

    def ask(self, requests):
        for place, request in enumerate(requests):
            if request is not None: yield place, self.given[request.sample % len(self.given)]


def test_counts_tell_what_was_taken_away_and_refused(tmp_path):
    numbers = iter(range(10**6))
    def said(form): return [Answer(form.format(f'Oil fell by {next(numbers)} cents.')) for _ in range(4)]
    answers = [*said('**Text:** {}'), *said('Sure! Here is a text: {}\n\nLet me know if you would like more!'), *said('{}'), *[Answer("I'm sorry, but I can't help with that.")]*4,
               Answer('Oil fell by a cent. Then the shares of all', 'length'), Answer('Oil fell by', 'length'), Answer('x'*5_000_000)]
    Recipe.simprompt().generate('ag_news', n=8, out=tmp_path/'run', teacher=Says(*answers), budget=40)
    counts, rows = read_counts(tmp_path/'run'), list(read_rows(tmp_path/'run', None))
    assert counts['cleaned'] == {'cue': 4, 'preamble': 4, 'closing': 4}
    assert 'Taken away around accepted texts: ' in ends(counts) and 'preamble (4)' in ends(counts)
    assert '(preamble)' in (tmp_path/'run'/'README.md').read_text(encoding='utf-8')
    assert {row['cleaned'] for row in rows} <= {None, 'cue', 'preamble, closing', 'closing, preamble'}


def test_every_end_of_an_answer_is_told(tmp_path):
    answers = [Answer('Oil fell by a cent. Then the', 'length'), Answer('Oil fell by', 'length'), Answer('x'*5_000_000), Answer("I'm sorry, but I can't help with that."), Answer('\u200b'), Answer('Gas fell.')]
    with pytest.warns(UserWarning, match='rows are missing'): Recipe.simprompt().generate('ag_news', n=4, out=tmp_path/'run', teacher=Says(*answers), budget=16)
    with open_run(tmp_path/'run') as run: counts, longest = run.counts(), max(len(row['text']) for row in run.rows(None))
    assert counts['cleaned'] == {'unfinished end': 1} and CUT in counts['rejected'] and longest < 50_000
    assert {'the answer is a refusal', 'overlong: longer than its tokens allow', CUT, 'empty text, besides invisible character'} <= set(counts['rejected'])


# -- one rule for all teachers, and everywhere

def test_a_cut_text_ends_the_same_from_every_teacher():
    "The limit that cut the text decides, not who wrote it: a whole sentence is kept, a beginning is rejected unless a beginning was asked for."
    long, short = TASK.max_new_tokens, TASK.max_new_tokens - 1
    assert judge_text('Oil fell today. Shares', TASK, cut_at=long) == Judged('Oil fell today.', '', ('unfinished end',))
    assert judge_text('Oil fell today and', TASK, cut_at=long) == Judged('Oil fell today and', CUT)
    assert judge_text('Oil fell today and', TASK, cut_at=short) == Judged('Oil fell today and', '', (CUT,))


ODD = {'NUL': '\0', 'zero width': '\u200b', 'direction': '\u202e', 'escape sequence': '\x1b[31m', 'bell': '\x07', 'byte order': '\ufeff'}


@pytest.mark.parametrize('spelled', (True, False))
@pytest.mark.parametrize('odd', ODD.values(), ids=ODD)
def test_what_nobody_sees_goes_out_of_every_structured_answer(odd, spelled):
    "Attributes, contexts, seeds, lists of texts and the reasons of corrections are read by one function."
    def read_as(schema, value):
        asked, text = Request([{'role': 'user', 'content': 'Go.'}], schema=schema), json.dumps(value, ensure_ascii=spelled)
        reply = read_reply(asked, Answer(text))
        assert reply.ok and reply.cleaned
        return json.dumps(reply.value.model_dump(), ensure_ascii=False)
    keys = list(attributes_schema(TASK).model_json_schema()['properties'])
    found = [read_as(attributes_schema(TASK), {key: f'a{odd}b' for key in keys}), read_as(list_schema('contexts', 2), {'contexts': [f'a{odd}b', 'c']}),
             read_as(correction_schema(['yes', 'no']), {'explanation': f'a{odd}b', 'label': 'yes'})]
    assert all('ab' in text and odd not in text and visible(text).text == text for text in found)


def test_a_plain_answer_is_bounded_by_its_tokens():
    asked = Request([{'role': 'user', 'content': 'Go.'}], Sampling(256))
    assert read_reply(asked, Answer('x'*most_characters(asked.sampling))).ok
    reply = read_reply(asked, Answer('x'*5_000_000))
    assert reply.outcome == 'overlong' and '256 tokens' in reply.reason and len(reply.text) < 50_000


def test_a_refusal_in_place_of_json_is_not_asked_for_again():
    asked = Request([{'role': 'user', 'content': 'Go.'}], schema=list_schema('texts', 2))
    assert [read_reply(asked, Answer(text)).outcome for text in ("I'm sorry, but I can't help with that.", 'Here you go.')] == ['refused', 'malformed']


def test_every_rule_has_examples_in_both_directions():
    assert clean_answer(TEXT, TASK.cue) == Cleaned(TEXT) and not no_text(TEXT)
    assert not [rule.kind for rule in answer_rules('clean') if left_by(rule, TEXT) is not None]


def test_the_report_counts_what_was_taken_away():
    view = _counts_view({'asked': 3, 'candidates': 3, 'accepted': {'a': 3}, 'rejected': {}, 'failed': {}, 'cleaned': {'preamble': 2}})
    assert 'preamble' in str(view['tables'][-1]) and not view['fault']
