"A class is all that a new choice takes: recipe file, command line, run and card learn it from the class."
import textwrap
from pathlib import Path

import pytest
from synthlab import Recipe, load_task, read_rows
from synthlab.choice import CHOICES, choice_name, make_choice
from synthlab.cli.main import main
from synthlab.store.runs import open_run

TOYS = '''
from dataclasses import dataclass

import numpy as np
import torch
from synthlab.align.choices import Aligned, Aligning
from synthlab.choice import option, register
from synthlab.correct.questions import Verdict
from synthlab.correct.choices import Correcting
from synthlab.decode.choices import Decoding
from synthlab.decode.loop import DecodePlan
from synthlab.prompt.choices import Prompting
from synthlab.select.choices import Selecting


@register('select')
@dataclass(frozen=True)
class Latest(Selecting):
    """Show the last examples first.

    Parameters
    ----------
    skip : int
        Examples left out at the end.
    """

    choice = 'latest'
    skip: int = option(0, least=0)

    def pick(self, X, n, seed): return np.arange(len(X) - 1 - self.skip, -1, -1)[:n, None]


@register('prompt')
@dataclass(frozen=True)
class Echo(Prompting):
    """Ask in one sentence, with an example.

    Parameters
    ----------
    opening : str
        First word of the request.
    """

    choice = 'echo'
    shots = 1
    opening: str = option('Hello')

    def messages(self, task, label, examples):
        return [{'role': 'user', 'content': f'{self.opening}: {task.write_instruction(label)} Like this: {examples[0]}'}]


@register('decode')
@dataclass(frozen=True)
class Shy(Decoding):
    """Each text pushes every other one away a little.

    Parameters
    ----------
    push : float
        Exponent of the others.
    """

    choice = 'shy'
    mixes = True
    push: float = option(.1, least=0, most=1)

    def plan(self, prompts, labels, seed=0, name=None):
        M = len(prompts)
        weights = torch.eye(M)*(1 + self.push) - self.push/M
        return DecodePlan(list(prompts), list(range(M)), weights, .001, list(labels), seed, name=name)


@register('correct')
@dataclass(frozen=True)
class ShortIsSports(Correcting):
    """A rule instead of a teacher: short texts are about sports.

    Parameters
    ----------
    words : int
        A text of fewer words is short.
    """

    choice = 'short-is-sports'
    policy = 'flag'
    words: int = option(5, least=1)

    def verdict(self, row, replies, strategy):
        short = len(row['text'].split()) < self.words
        return Verdict('Sports' if short else row['label'], 'short' if short else '')


@register('align')
@dataclass(frozen=True)
class ByLength(Aligning):
    """Longer texts weigh more.

    Parameters
    ----------
    power : float
        Power of the length.
    """

    choice = 'by-length'
    power: float = option(1., above=0)

    def align(self, texts, labels, pool, wanted, seed=0, embedder=None):
        lengths = np.array([len(text) for text in texts], float)**self.power
        return Aligned(lengths/lengths.mean(), np.ones(len(texts), bool),
                       {'mmd_uniform': 1., 'mmd': .5, 'ess': 1., 'real': 1})
'''
RECIPE = '''
name = "toys"
[select]
choice = "toys.py:Latest"
skip = 1
[prompt]
choice = "toys.py:Echo"
opening = "Please"
[decode]
choice = "toys.py:Shy"
push = 0.2
[correct]
choice = "toys.py:ShortIsSports"
words = 30
[align]
choice = "toys.py:ByLength"
power = 2.0
'''
KINDS = {'select': 'Latest', 'prompt': 'Echo', 'decode': 'Shy', 'correct': 'ShortIsSports', 'align': 'ByLength'}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A folder with a file of five classes and a recipe that names them; the registry is left as it was."
    before = {stage: dict(kinds) for stage, kinds in CHOICES.items()}
    (tmp_path/'toys.py').write_text(TOYS, encoding='utf-8')
    (tmp_path/'mine.toml').write_text(RECIPE, encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for stage, kinds in before.items():
        CHOICES[stage].clear()
        CHOICES[stage].update(kinds)


def test_a_recipe_file_names_classes_of_ones_own(folder):
    recipe = Recipe.from_toml('mine.toml')
    assert {stage: type(getattr(recipe, stage)).__name__ for stage in KINDS} == KINDS
    assert (recipe.select.skip, recipe.prompt.opening, recipe.decode.push, recipe.correct.words) == (1, 'Please', .2, 30)
    text = recipe.to_toml('again.toml')
    assert Recipe.from_toml('again.toml') == recipe
    assert '# Examples left out at the end' in text and '# Exponent of the others' in text
    assert recipe.having(push=.5).decode.push == .5


def test_options_are_checked_and_misspellings_are_named(folder):
    Recipe.from_toml('mine.toml')
    with pytest.raises(ValueError, match='push must be a number from 0 to 1, got 2'): make_choice('decode', {'choice': 'toys.py:Shy', 'push': 2})
    with pytest.raises(ValueError, match="no option 'psh'; did you mean 'push'"): make_choice('decode', {'choice': 'toys.py:Shy', 'psh': 1})
    with pytest.raises(ValueError, match='no class Shyy'): make_choice('decode', {'choice': 'toys.py:Shyy'})
    with pytest.raises(ValueError, match=r'uses examples, and select = "none" gives none'): Recipe.from_toml('mine.toml').having(select='none')
    with pytest.raises(ValueError, match='has no option'): Recipe.from_toml('mine.toml').having(delta=.5)


def test_the_command_line_runs_it_and_the_card_names_it(folder, capsys):
    assert main(['generate', 'ag_news', '--recipe', 'mine.toml', '--n', '8', '--max-new-tokens', '24', '--out', 'run']) == 0
    rows = list(read_rows('run'))
    assert len(rows) == 8
    with open_run('run') as run:
        prompts = {row['id']: row for row in run.rows()}
        assert run.facts['aligned']['mmd'] == .5
        assert {stage: run.recipe['method'][stage]['choice'] for stage in KINDS} == {stage: f'toys.py:{kind}' for stage, kind in KINDS.items()}
    # The last example but one is shown, and the rule marks short rows.
    first = {row['label_target']: row['demos'] for row in prompts.values()}
    labels = load_task('ag_news').labels
    assert all(first[label.name][0].startswith(f'ag_news/{label.name}') for label in labels)
    assert all((row['label_corrected'] == 'Sports') == (len(row['text'].split()) < 30 or row['label'] == 'Sports') for row in rows)
    weights, lengths = [row['weight'] for row in rows], [len(row['text'])**2 for row in rows]
    assert weights == pytest.approx([length/(sum(lengths)/len(lengths)) for length in lengths])
    card = Path('run/README.md').read_text(encoding='utf-8')
    assert all(kind in card for kind in KINDS.values())
    # The same command goes on where it was, and another process finds the classes by their place.
    assert main(['generate', 'ag_news', '--recipe', 'mine.toml', '--n', '8', '--max-new-tokens', '24', '--out', 'run']) == 0
    assert Recipe.from_toml('run/recipe.toml').select.skip == 1


def test_a_file_beside_the_recipe_is_found_from_elsewhere(folder, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp('elsewhere'))
    recipe = Recipe.from_toml(folder/'mine.toml')
    name = choice_name('select', recipe.select)
    assert name == f'{folder/"toys.py"}:Latest'
    assert make_choice('select', {'choice': name, 'skip': 1}) == recipe.select


def test_a_class_written_in_python_needs_no_file():
    from dataclasses import dataclass
    from synthlab.choice import register
    from synthlab.select.choices import Selecting
    try:
        @register('select')
        @dataclass(frozen=True)
        class Here(Selecting):
            "Nothing special."
            choice = 'here'
        assert Recipe(Here()).table['select'] == {'choice': 'here'} and Recipe().having(select='here').select == Here()
        with pytest.raises(ValueError, match="has a choice 'random'"):
            register('select')(type('Other', (Selecting,), {'choice': 'random'}))
    finally: CHOICES['select'].pop('here', None)


def test_the_names_of_choices_are_those_of_the_docs():
    assert {stage: list(kinds) for stage, kinds in CHOICES.items()} == {
        'select': ['none', 'random', 'uncertainty', 'spread'],
        'prompt': ['few-shot', 'attributes', 'simple', 'targeted', 'verbalized'],
        'decode': ['independent', 'correlated', 'cfg'],
        'correct': ['none', 'self-correction', 'evidence'],
        'align': ['none', 'mmd', 'importance']}


def test_a_notebook_that_defines_a_class_of_the_package_again_leaves_the_packages_own():
    from dataclasses import dataclass
    from synthlab.choice import register
    from synthlab.decode.choices import Decoding
    from synthlab.decode.choices import FewGen as own
    @dataclass(frozen=True)
    class FewGen(Decoding):
        "The same, in a notebook."
        choice = 'independent'
    FewGen.__qualname__ = 'FewGen'
    assert register('decode')(FewGen) is FewGen and CHOICES['decode']['independent'] is own
    assert choice_name('decode', FewGen()) == choice_name('decode', own()) == 'independent'


def test_files_of_one_name_in_two_folders_are_two_choices(tmp_path, monkeypatch):
    before = {stage: dict(kinds) for stage, kinds in CHOICES.items()}
    try:
        for number, folder in enumerate('ab'):
            (tmp_path/folder).mkdir()
            (tmp_path/folder/'toys.py').write_text(TOYS.replace('skip: int = option(0', f'skip: int = option({number}'), encoding='utf-8')
            (tmp_path/folder/'mine.toml').write_text('[select]\nchoice = "toys.py:Latest"\n', encoding='utf-8')
        monkeypatch.chdir(tmp_path/'a')
        here, there = Recipe.from_toml('mine.toml'), Recipe.from_toml(tmp_path/'b'/'mine.toml')
        names = {choice_name('select', recipe.select): recipe.select.skip for recipe in (here, there)}
        assert names == {'toys.py:Latest': 0, f"{tmp_path/'b'/'toys.py'}:Latest": 1}
        assert all(make_choice('select', {'choice': name}).skip == skip for name, skip in names.items())
        monkeypatch.chdir(tmp_path/'b')
        assert Recipe.from_toml('mine.toml').select.skip == 1
    finally:
        for stage, kinds in before.items():
            CHOICES[stage].clear()
            CHOICES[stage].update(kinds)
