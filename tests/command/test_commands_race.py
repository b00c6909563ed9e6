"""Commands as contenders, raced through the command line and through the referee."""

import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from forked_workers import forked

from sooner.cli.commands import contenders_of
from sooner.command.plan import CommandPlan, program_of, refuse_unseeded
from sooner.command.template import read
from sooner.command.trying import Trying, try_out
from sooner.error import SoonerError
from sooner.race.journal import read as read_journal
from sooner.race.pilot import outlook, pilot
from sooner.race.referee import run
from sooner.race.worker import run_cell

HERE = Path(__file__).parent
PLAIN = "plain: {python} pure.py --lr {{lr=0.02:log(1e-3,3e-1)}} --seed {{seed}} --steps {{steps}}"
HEAVY = "heavy: {python} pure.py --momentum 0.9 --lr {{lr=0.02:log(1e-3,3e-1)}} --seed {{seed}} --steps {{steps}}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, zygote):
    for script in ("pure.py", "contends.py", "gpt.py"):
        shutil.copy(HERE / script, tmp_path)
    monkeypatch.chdir(tmp_path)
    with forked(zygote):
        yield tmp_path


def command(text, **more):
    return read(text.format(python=shlex.quote(sys.executable), **more))


def planned(*texts, metric="val_loss", steps=40, regime="auto", tune=0, looks=(6,), **options):
    commands = [command(text) for text in texts]
    program = program_of(commands, metric, **options)
    refuse_unseeded(commands, program)
    trying = Trying(commands, program, steps=steps, regime=regime)
    tried = try_out(trying, jobs=1, told=lambda cells: None)
    return CommandPlan(
        tried.program, tried.commands, steps=steps, regime=regime, tune=tune, looks=looks, jobs=1, notes=tried.notes
    )


def faulty(fault, metric="val_loss", **options):
    text = f"bad: {{python}} pure.py --seed {{{{seed}}}} --steps {{{{steps}}}} --fault {fault}"
    with pytest.raises(SoonerError) as told:
        planned(text, metric=metric, **options)
    return str(told.value)


def test_two_commands_race_by_every_rule():
    result = run(planned(PLAIN, HEAVY, tune=1))
    plain, heavy = result["contenders"]
    assert (plain["recipe"], heavy["recipe"]) == ("plain", "heavy")
    assert result["task"]["metric"] == "val_loss"
    assert result["task"]["parameters"] is None
    assert result["regime"] == "anytime"  # its first steps do not depend on how many were asked for
    assert heavy["targets"]["middle"]["ratio"] < 1
    assert len(heavy["targets"]["middle"]["steps"]) == 6
    assert result["noise_floor"]["of"] == 6
    assert [len(row["tuning"]["trials"]) for row in result["contenders"]] in ([2, 2], [3, 3])
    assert "timed from outside" in result["timing"]["why"]
    again = run(planned(PLAIN, HEAVY, tune=1))
    assert again["contenders"] == result["contenders"]
    (known,) = pilot(planned(PLAIN, HEAVY, tune=1))
    assert (known.source, known.seen) == ("1 finished comparison beside this race", True)


def test_power_is_planned_from_a_pilot_of_the_first_command():
    plan = planned(PLAIN)
    (known,) = pilot(plan)
    assert (known.steps, known.runs, known.source) == (40, 10, "a pilot of 10 runs of plain")
    assert known.hits >= 9
    assert known.cpu_seconds > 0
    (budget,) = outlook(plan, [known], 0.9, 0.7)["budgets"]
    assert [row["ratio"] for row in budget["effects"]] == [0.95, 0.9, 0.85, 0.8, 0.7, 0.5]
    assert budget["visible_final_difference"] > 0


def test_a_schedule_that_decays_makes_the_race_budgeted():
    plan = planned(PLAIN + " --fault decay")
    assert plan.regime == "budgeted"
    assert len(plan.horizons) == 6
    assert len(plan.runs(plan.baseline, plan.baseline.default, 1)) == 6


def test_a_command_of_its_own_length_needs_no_budget():
    plan = planned("plain: {python} pure.py --seed {{seed}}", steps=None)
    assert plan.budget == 40
    assert plan.regime == "anytime"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("seedless", ["prints the same val_loss for the seeds 60000 and 60001"]),
        ("exit", ["command 'bad' can't race: exit code 1", "stderr ends: cannot open data.bin"]),
        ("unnamed", ["no val_loss was found in standard output", "epoch 40 accuracy", "name another --metric"]),
    ],
)
def test_what_no_race_can_use_is_refused_in_a_sentence(fault, words):
    said = faulty(fault)
    assert all(word in said for word in words), said
    assert "\n" not in said


def test_output_that_stops_is_ended():
    said = faulty("silent", silence=1.0)
    assert "it wrote nothing for 1 s and was ended; it ends: step 0: val loss 9.0" in said
    assert "--silence" in said


def test_a_command_without_a_seed_is_refused_before_it_runs():
    with pytest.raises(SoonerError, match=r"command 'plain' has no \{seed\}"):
        planned("plain: {python} pure.py --steps {{steps}}")


def test_different_numbers_for_one_seed_race_unpaired_and_say_how_much():
    plan = planned("restless: {python} pure.py --seed {{seed}} --steps {{steps}} --fault restless", regime="anytime")
    (note,) = [note for note in plan.warnings() if "unpaired" in note]
    assert "different numbers for one seed twice (val_loss by" in note
    assert "of what another seed changes" in note


def test_a_wrong_number_of_steps_is_refused():
    with pytest.raises(SoonerError, match="it went on to step 40 where 30 were its budget"):
        planned("plain: {python} pure.py --seed {{seed}}", steps=30)
    with pytest.raises(SoonerError, match="its last val_loss is of step 40, and the budget 50"):
        planned("plain: {python} pure.py --seed {{seed}}", steps=50)


def test_files_that_a_run_writes_are_read():
    plan = planned(PLAIN + " --out {{out}}", log="*.csv")
    assert plan.task.evaluations == 20
    with pytest.raises(SoonerError, match=r"no val_loss was found in the files \*\.tsv \(none is there\)"):
        planned(PLAIN + " --out {{out}}", log="*.tsv")


def test_a_file_that_changes_stops_the_race():
    plan = planned(PLAIN)
    with Path("pure.py").open("a") as file:
        file.write("\n# another program\n")
    with pytest.raises(SoonerError, match=r"pure\.py changed while the race was running"):
        run(plan)


def test_a_race_killed_at_three_moments_goes_on_where_it_was(folder, zygote, tmp_path_factory):
    def start():
        words = [HERE / "killed_race.py", command_text(PLAIN)]
        return zygote.start(words, tmp_path_factory.mktemp("said"), "race")

    for cells in (1, 9, 17):  # while it is tried out, while targets are set, while it races
        race = start()
        while finished(folder) < cells:
            os.kill(race.pid, 0)  # it is still there: a race that ended by itself is waited for in vain
            time.sleep(0.01)
        race.kill()
        assert race.wait() == -signal.SIGKILL
    made = {path.name for path in (folder / "kept" / "runs").iterdir()}
    last = start()
    assert last.wait() == 0, last.error.read_text()
    assert made < {path.name for path in (folder / "kept" / "runs").iterdir()}
    kept = read_journal(Path("kept"))
    assert len(kept.sessions) == 3
    assert kept.find("result", "result")["contenders"] == run(planned(PLAIN))["contenders"]


def test_a_killed_run_goes_on_from_its_folder(folder):
    plan = planned("contends: {python} contends.py {{lr=0.02:log(1e-3,3e-1)}}", steps=40)
    whole, killed = (plan.payload(plan.baseline.with_settings({"lr": 0.02}), 7, 40, []) for _ in range(2))
    killed = {**killed, "folder": str(folder / "killed")}
    out = folder / "killed" / "out"
    out.mkdir(parents=True)
    (out / "die once").touch()
    with pytest.raises(SoonerError, match="exit code 1; stderr ends: killed in the middle"):
        run_cell(killed, lambda *_: None)
    resumed, straight = run_cell(killed, lambda *_: None), run_cell(whole, lambda *_: None)
    assert resumed["values"] == straight["values"]
    assert resumed["steps"] == straight["steps"]
    assert json.loads((folder / "killed" / "report-2.jsonl").read_text().splitlines()[0])["step"] > 20


def command_text(text):
    return text.format(python=shlex.quote(sys.executable))


def finished(folder):
    count = 0
    for path in folder.glob("*/journal.jsonl"):
        count += path.read_bytes().count(b'"cell"')
    return count


def test_a_script_that_asks_for_its_seed_needs_no_places():
    plan = planned("contends: {python} contends.py {{lr=0.02:log(1e-3,3e-1)}}", steps=40)
    assert plan.regime == "anytime"
    assert plan.task.evaluations == 20


RANKS = """
import os, sooner
with sooner.contender() as run:
    (run.folder / f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}").touch()
    for step in range(0, run.steps + 1, 2):
        run.report(step, val_loss=1 / (1 + step + run.seed))
"""


def test_under_torchrun_all_processes_run_and_the_first_reports(folder):
    (folder / "ranks.py").write_text(RANKS)
    launched = command("two: {python} -m torch.distributed.run --standalone --nproc-per-node 2 ranks.py")
    program = program_of([launched], "val_loss")
    refuse_unseeded([launched], program)
    found = run_cell(program.payload(launched, 7, 20, folder / "run"), lambda *_: None)
    assert found["steps"] == [*range(0, 21, 2)]
    assert found["values"] == [1 / (8 + step) for step in found["steps"]]
    assert sorted(path.name for path in (folder / "run" / "out").iterdir()) == ["rank 0 of 2", "rank 1 of 2"]
    assert (folder / "run" / "report-1.jsonl").read_text().count("val_loss") == 11


def test_one_command_runs_several_recipes():
    made = contenders_of(["python gpt.py --recipe {recipe} --seed {seed}"], "adamw; muon(lr=0.02)")
    assert [str(one) for one in made] == ["adamw", "muon(lr=0.02)"]
    tuned = made[0].with_settings({"lr": 0.01})
    assert "--recipe 'adamw(lr=0.01)' --seed 3" in tuned.filled(seed=3, steps=1, out="x", device="cpu")
    with pytest.raises(SoonerError, match=r"asks for \{recipe\}"):
        contenders_of(["python gpt.py --recipe {recipe} --seed {seed}"], None)


def test_a_small_gpt_in_plain_torch_races():
    text = "gpt: {python} gpt.py --seed {{seed}} --steps {{steps}}"
    plan = planned(text, steps=12)
    assert plan.task.evaluations == 12
    assert plan.regime == "anytime"
