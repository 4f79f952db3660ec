"""What a collection hands to the loss, and where the old policy's numbers come from."""

from __future__ import annotations

import torch

from sepo.diffusion.views import Reading, read
from sepo.objectives import SEPO, AllSites, FreshMasks, NextSite
from sepo.training import Experience
from sepo.training.experience import restored
from tests.training.toys import clues, trainer


def collected(folder, rows=None, reading=None, **options):
    run = trainer(folder, rows=rows, objective=SEPO(reading or NextSite(None)), **options)
    rows_given = run.stream.rows([0, 1])
    return run, run.collector.collect(rows_given, [0, 1])


def test_the_rollout_itself_is_the_old_reading_of_next_site_views(tmp_path):
    run, found = collected(tmp_path)
    [experience] = run.collector.experiences(found, iteration=0, micro=8, stale=True)
    with torch.no_grad():
        policy_says = read(run.policy, experience.views).log_prob
    assert experience.old is not None
    assert torch.allclose(experience.old.log_prob, policy_says, atol=1e-5)
    assert float(experience.old.log_prob.sum()) < -1


def test_the_rollout_reading_costs_no_network_evaluation(tmp_path):
    run, found = collected(tmp_path)
    before = run.policy.meter.evaluations
    run.collector.experiences(found, iteration=0, micro=8, stale=True)
    assert run.policy.meter.evaluations == before


def test_without_a_next_site_reading_old_is_the_new_policy_until_it_changes(tmp_path):
    for place, reading in enumerate((AllSites(2), FreshMasks(2))):
        run, found = collected(tmp_path / str(place), reading=reading)
        [fresh] = run.collector.experiences(found, iteration=0, micro=8, stale=False)
        assert fresh.old is None
        new = run.objective.read(run.policy, fresh.views)
        old = fresh.old_reading(new)
        assert torch.equal(old.log_prob, new.log_prob) and not old.log_prob.requires_grad


def test_stale_experience_is_read_when_it_is_collected_and_counted(tmp_path):
    run, found = collected(tmp_path, reading=FreshMasks(2))
    before = run.policy.meter.evaluations
    stale = run.collector.experiences(found, iteration=0, micro=4, stale=True)
    assert len(stale) == 2 and run.policy.meter.evaluations == before + 8 * 2
    with torch.no_grad():
        for part in stale:
            assert part.old is not None
            assert torch.allclose(part.old.log_prob, run.objective.read(run.policy, part.views).log_prob, atol=1e-5)
        for weight in run.policy.network.parameters():
            weight.add_(0.1)
        moved = run.objective.read(run.policy, stale[0].views).log_prob
        assert not torch.allclose(stale[0].old_reading(Reading(moved)).log_prob, moved, atol=1e-2)


def test_iterations_read_the_same_rollout_at_other_states(tmp_path):
    run, found = collected(tmp_path, reading=NextSite(2))
    first, second = (run.collector.experiences(found, iteration, 8, True)[0] for iteration in (0, 1))
    assert torch.equal(first.views.target, second.views.target)
    assert torch.equal(first.credit.reward, second.credit.reward)
    assert not torch.equal(first.views.xt, second.views.xt)


def test_micro_batches_are_the_rows_of_the_collection_in_order(tmp_path):
    run, found = collected(tmp_path, rows=clues())
    whole = run.collector.experiences(found, 0, 8, False)[0]
    parts = run.collector.experiences(found, 0, 2, False)
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    assert torch.equal(torch.cat([part.views.xt for part in parts]), whole.views.xt)
    assert torch.equal(torch.cat([part.credit.advantage for part in parts]), whole.credit.advantage)


def test_stored_experience_comes_back(tmp_path):
    run, found = collected(tmp_path)
    made = run.collector.experiences(found, 0, 8, True)[0]
    again = restored(made.tensors())
    assert isinstance(again, Experience)
    assert again.tensors().keys() == made.tensors().keys()
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in made.tensors().items())
