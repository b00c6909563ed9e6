"""Who takes part: properties of the choices, and the algorithms that use old and uneven work, by transcription."""

import math
from dataclasses import replace

import heterogeneous_task
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_local_parts import RATE, SEED, TASK, WORKERS, clients, gradient, same, vector

from sooner.cluster import train_cluster
from sooner.communication import AFACD, Anarchic, Curriculum, Full, Sampled
from sooner.communication._cohort import seconds_per_step
from sooner.communication.curriculum import PACES
from sooner.error import SoonerError
from sooner.task import derived_seed

COHORT_SEED = derived_seed(SEED, "cohort")


@settings(max_examples=30)
@given(
    part=st.sampled_from(
        [Full(), Sampled(0.3), Sampled(0.01), Anarchic(0.3, oldest=9), Anarchic(0.5, oldest=0), Anarchic(1.0, oldest=1)]
    ),
    workers=st.integers(1, 12),
    steps=st.integers(1, 9),
    seed=st.integers(0, 50),
)
def test_rounds_are_functions_of_seed_and_number_alone(part, workers, steps, seed):
    rounds = [part.round(number, workers, steps, seed) for number in range(1, 12)]
    for number in (11, 3, 7):
        again, before = part.round(number, workers, steps, seed), rounds[number - 1]
        assert again.active.tolist() == before.active.tolist()
        assert again.steps.tolist() == before.steps.tolist()
        assert (again.staleness.tolist(), again.seconds) == (before.staleness.tolist(), before.seconds)
    for one in rounds:
        numbers = one.active.tolist()
        assert numbers == sorted(set(numbers))
        assert len(numbers) == part.count(workers)
        assert set(numbers) <= set(range(workers))
        assert all(1 <= k <= steps if part.uneven else k == steps for k in one.steps.tolist())
        assert all(0 <= age <= part.oldest for age in one.staleness.tolist())
        assert one.seconds >= 0


def test_sampling_is_fair():
    counts = torch.zeros(10)
    for number in range(1, 401):
        counts[Sampled(0.3).round(number, 10, 5, 7).active] += 1
    assert counts.sum() == 1200
    assert (counts - 120).abs().max() < 5 * math.sqrt(400 * 0.3 * 0.7)


def test_the_clock_waits_for_the_slowest_that_takes_part():
    paces = seconds_per_step(20, 1.0, 3)
    assert Full(1.0).round(1, 20, 7, 3).seconds == pytest.approx(7 * float(paces.max()))
    one = Sampled(0.2, 1.0).round(4, 20, 7, 3)
    assert one.seconds == pytest.approx(7 * float(paces[one.active].max()))
    assert Full().round(1, 20, 7, 3).seconds == 7
    large = seconds_per_step(4000, 0.5, 3).log()
    assert float(large.std()) == pytest.approx(0.5, rel=0.05)
    assert float(large.mean()) == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize("oldest", [5, 8, 60])
def test_anarchic_workers_come_back_when_they_are_done(oldest):
    """The same events by a plain simulation: who starts when, on which weights, and is awaited when too old."""
    part, workers, steps = Anarchic(0.25, 1.0, oldest), 12, 6
    paces = seconds_per_step(workers, 1.0, COHORT_SEED).tolist()
    started, done, version, now = [0.0] * workers, [math.inf] * workers, [0] * workers, 0.0
    ages = []
    for number in range(1, 61):
        one = part.round(number, workers, steps, COHORT_SEED)
        for i, k, age in zip(one.active.tolist(), one.steps.tolist(), one.staleness.tolist(), strict=True):
            assert age == number - 1 - version[i]
            done[i] = started[i] + paces[i] * k
        now = max(now, *(done[i] for i in one.active.tolist()))
        ages += one.staleness.tolist()
        for i in one.active.tolist():
            version[i], started[i] = number, now
    total = sum(part.round(number, workers, steps, COHORT_SEED).seconds for number in range(1, 61))
    assert total == pytest.approx(now)
    assert max(ages) <= oldest
    if oldest == 60:  # nobody is ever awaited: fast ones come back more often
        counts = [0] * workers
        for number in range(1, 61):
            for i in part.round(number, workers, steps, COHORT_SEED).active.tolist():
                counts[i] += 1
        fastest, slowest = paces.index(min(paces)), paces.index(max(paces))
        assert counts[fastest] > 2 * counts[slowest]


@pytest.mark.parametrize("kind", ["afa_cd", "afa_cs"])
@pytest.mark.parametrize("server_steps", [None, 3.0])
def test_anarchic_federated_averaging(kind, server_steps):
    every, rounds, cohort = 4, 8, Anarchic(0.4, oldest=4)
    model = heterogeneous_task.model(derived_seed(SEED, "init"))
    data, past, table = clients(), [vector(model)], {}
    for number in range(1, rounds + 1):
        now = cohort.round(number, WORKERS, every, COHORT_SEED)
        fresh = {}
        for i, k, age in zip(now.active.tolist(), now.steps.tolist(), now.staleness.tolist(), strict=True):
            y, total = past[-1 - age].clone(), 0.0
            for step in range((number - 1) * every, (number - 1) * every + k):
                g = gradient(model, y, data[i][step])
                total = total + g
                y = y - RATE * g
            fresh[i] = total / k
        table.update(fresh)
        mean = sum((table if kind == "afa_cs" else fresh).values()) / len(table if kind == "afa_cs" else fresh)
        eta = RATE * (server_steps or float(now.steps.double().mean()))
        past.append(past[-1] - eta * mean)
    assert any(cohort.round(r, WORKERS, every, COHORT_SEED).staleness.max() > 0 for r in range(1, rounds + 1))
    text = f"{kind}(every={every}, server_steps={server_steps}) + anarchic(share=0.4, oldest=4)"
    text = f"sgd(lr={RATE}, momentum=0.0) + {text}"
    run = train_cluster(TASK, text, SEED, rounds * every, WORKERS)
    same(vector(run.model), past[-1])
    assert run.diverged_at is None


def test_with_equal_steps_and_fresh_weights_afa_is_fedavg():
    runs = [
        train_cluster(TASK, f"sgd(lr=0.1, momentum=0.0) + {outer}(every=3) + sampled(share=0.4)", SEED, 9, WORKERS)
        for outer in ("local_sgd", "afa_cd")
    ]
    same(vector(runs[0].model), vector(runs[1].model))


def test_without_normalisation_fast_workers_count_more():
    """The trap: the sum of a worker's steps is not their mean."""
    uneven = "anarchic(share=1.0, oldest=0)"
    sums, means = (
        train_cluster(TASK, f"sgd(lr=0.1, momentum=0.0) + {outer}(every=6) + {uneven}", SEED, 12, WORKERS)
        for outer in ("local_sgd", "afa_cd")
    )
    assert not torch.allclose(vector(sums.model), vector(means.model))
    assert sums.worker_steps == means.worker_steps < 12 * WORKERS


def test_clients_count_by_their_examples_where_asked():
    model = heterogeneous_task.model(derived_seed(SEED, "init"))
    w, data = vector(model), clients()
    sizes = torch.tensor([len(d.labels) for d in data], dtype=torch.float64)
    arrived = torch.stack([w - RATE * gradient(model, w, d[0]) for d in data])
    expected = (sizes / sizes.sum()) @ arrived
    text = f"sgd(lr={RATE}, momentum=0.0) + sampled(share=1.0, by_size=True)"
    for outer in ("", " + local_sgd(every=1)"):
        same(vector(train_cluster(TASK, text + outer, SEED, 1, WORKERS).model), expected)


class TestCurriculum:
    @settings(max_examples=40)
    @given(
        count=st.integers(1, 30),
        pace=st.sampled_from(sorted(PACES)),
        start=st.floats(0.01, 1),
        full_at=st.floats(0, 1.6),
        order=st.sampled_from(["easy", "hard", "random", "all"]),
        labelled=st.booleans(),
    )
    def test_more_and_more_is_open(self, count, pace, start, full_at, order, labelled):
        part = Curriculum(samples=order, pace=pace, start=start, full_at=full_at)
        generator = torch.Generator().manual_seed(count)
        losses = torch.rand(count, generator=generator)
        labels = torch.randint(3, (count,), generator=generator) if labelled else None
        before: set[int] = set()
        for time in (0.0, 0.2, 0.5, 0.9, 1.0):
            found = part.exposed(time, losses, labels, 5).tolist()
            assert len(set(found)) == len(found) >= 1
            assert before <= set(found)  # the losses are the same, so nothing is closed again
            before = set(found)
            if order == "all" or (full_at <= 1 and time == 1.0):
                assert len(found) == count
        if order != "all":
            first = part.exposed(0.0, losses, labels, 5)
            grown = 1.0 if full_at == 0 else 0.0
            assert len(first) == max(1, math.floor(count * (start + (1 - start) * grown)))

    def test_paces(self):
        for name, values in {
            "linear": (0, 0.5, 1),
            "quadratic": (0, 0.25, 1),
            "root": (0, 0.5**0.5, 1),
            "step": (0, 0, 1),
            "exponential": (0, (math.e**5 - 1) / (math.e**10 - 1), 1),
            "logarithm": (0, 1 + math.log(0.5 + math.e**-10) / 10, 1),
        }.items():
            assert [PACES[name](x) for x in (0.0, 0.5, 1.0)] == pytest.approx(values, abs=1e-5)

    def test_easy_and_hard_open_opposite_ends_and_random_neither(self):
        losses = torch.arange(10.0).flip(0)
        easy, hard, other = (
            Curriculum(samples=kind, start=0.3).exposed(0.0, losses, None, 1).tolist()
            for kind in ("easy", "hard", "random")
        )
        assert set(easy) == {9, 8, 7}
        assert set(hard) == {0, 1, 2}
        assert set(other) not in ({9, 8, 7}, {0, 1, 2})

    def test_every_class_is_opened_alike(self):
        """The trap: the easiest examples of a client are those of its most frequent class."""
        labels = torch.tensor([0] * 8 + [1] * 4)
        losses = torch.cat([torch.arange(8.0), 100 + torch.arange(4.0)])
        part = Curriculum(start=0.5)
        assert labels[part.exposed(0.0, losses, labels, 1)].bincount().tolist() == [4, 2]
        assert labels[part.exposed(0.0, losses, None, 1)].bincount().tolist() == [6]

    def test_easy_clients_come_first(self):
        difficulty = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
        part = Curriculum(share=0.4, clients="easy", start=0.4)
        assert part.judged_round(0.0, difficulty, 1, 3, 9).active.tolist() == [1, 3]
        later = {tuple(part.judged_round(1.0, difficulty, number, 3, 9).active.tolist()) for number in range(30)}
        assert len(later) > 5

    def test_equal_steps_are_taken_on_what_is_open(self):
        seen = []

        def loss(model, batch):
            if model.training:
                seen.append(batch[0].shape)
            return heterogeneous_task.loss(model, batch)

        text = "sgd(momentum=0.0) + local_sgd(every=3) + curriculum(share=0.4, start=0.01, full_at=1.6)"
        run = train_cluster(replace(TASK, loss=loss), text, SEED, 9, WORKERS, evaluate_at=[])
        assert run.worker_steps == 9 * 2
        assert {shape[0] for shape in seen} == {4}  # also where a single example is open

    def test_all_of_it_is_a_random_choice_of_clients(self):
        text = "sgd(momentum=0.0) + local_sgd(every=3) + curriculum(share=0.4, samples='easy', start=1.0)"
        assert train_cluster(TASK, text, SEED, 6, WORKERS).rounds == 2

    def test_a_task_without_examples_is_refused(self):
        bare = replace(TASK, shards=None, batches=lambda seed, split: [heterogeneous_task.examples(seed % 5, 4)] * 99)
        for cohort in ("curriculum", "sampled(by_size=True)"):
            with pytest.raises(SoonerError, match=r"has to know each worker's examples.*define shards"):
                train_cluster(bare, f"sgd + local_sgd(every=2) + {cohort}", 0, 4, 4)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("local_sgd(every=2) + anarchic", "lets workers start from old weights, which local_sgd can't use"),
        ("afa_cd(every=2) + anarchic(share=0.5, oldest=1)", "set oldest to at least 2"),
        ("anarchic(oldest=0)", "anarchic lets workers take their own number of steps; add an outer part"),
        ("sampled(share=2.0)", "sampled: share=2.0"),
        ("curriculum(samples='eazy')", r"samples='eazy' \(did you mean 'easy'\?\)"),
        ("noloco(every=2) + sampled(share=0.5)", "noloco needs all 4 workers"),
        ("afa_cs(every=2) + fp16", "afa_cs sends weights as they are; leave FP16 out"),
        ("afa_cd(server_steps=-1)", "server_steps=-1"),
        ("sampled + full", "both own the cohort"),
    ],
)
def test_refusals(recipe, message):
    with pytest.raises(SoonerError, match=message):
        train_cluster(TASK, f"sgd + {recipe}", 0, 4, 4)
    assert AFACD().every == 10
