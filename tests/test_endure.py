"A small part of `make endure`: commands that are killed at random moments, and go on."
import pytest
from endure import CASES, endure, held, table


def test_every_preset_and_every_command_that_writes_is_killed():
    from synthlab.run.recipe import PRESETS
    names = {case.name for case in CASES}
    assert {f'generate, {name}' for name in PRESETS} < names and {'evaluate', 'bake-off'} < names and any('five stages' in name for name in names)


@pytest.mark.long
@pytest.mark.parametrize('case', ['targen', 'five stages', 'corrsynth', 'export, csv'])
def test_a_killed_command_ends_as_if_nothing_had_happened(case, tmp_path):
    cases = endure(3, seed=5, minutes=5, only=[case], folder=tmp_path, progress=False)
    assert held(cases) and sum(case.counts['kills'] for case in cases) >= 3, '\n'.join(table(cases))
