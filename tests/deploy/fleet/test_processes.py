"""The fleet with real processes: stand-in workers that are started, killed, stopped, abandoned and found again."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import InvalidInput, Unavailable
from contracts.names import Color
from contracts.worker import WorkerSpec
from deploy.fleet.environment import child_environment
from deploy.fleet.ledger import ProcessKind, ProcessRecord
from deploy.fleet.process import Command, spawn
from deploy.fleet.processes import ProcessFleet, fleet_token
from deploy.fleet.procfs import process_stat
from deploy.ports import WorkerState, WorkerStatus
from tests.deploy.fleet.gear import QUICK, House, all_ready, behave, eventually, only_worker, standin_command

READY, STARTING, WAITING = WorkerState.READY, WorkerState.STARTING, WorkerState.WAITING
BROKEN, DRAINING = WorkerState.BROKEN, WorkerState.DRAINING


def run(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 120))


def test_a_placement_becomes_ready_workers_with_sockets_of_their_own(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.adopt()
        await fleet.converge([house.placement(replicas=2), house.placement(2, Color.GREEN)])
        workers = await all_ready(fleet, 3)
        assert [w.id for w in workers] == ["digits-1-blue-0", "digits-1-blue-1", "digits-2-green-0"]
        assert len({w.endpoint for w in workers}) == 3
        assert sorted(w.pid for w in workers if w.pid) == house.running()
        assert {(r.id, r.pid) for r in house.ledger.processes()} == {(w.id, w.pid) for w in workers}
        await fleet.close(drain=True)
        assert fleet.workers() == ()
        assert house.ledger.processes() == []
        assert list(house.sockets.iterdir()) == []

    run(story())


def test_every_change_rings(house: House):
    async def story() -> None:
        fleet = house.fleet()
        seen = await fleet.changed(-1)
        next_change = asyncio.create_task(fleet.changed(seen))
        await asyncio.sleep(0)
        assert not next_change.done()
        await fleet.converge([house.placement()])
        assert await next_change > seen
        states = set()
        while READY not in states:
            seen = await fleet.changed(seen)
            states |= {w.state for w in fleet.workers()}
        assert states == {STARTING, READY}
        await fleet.close(drain=True)

    run(story())


def test_a_killed_worker_comes_back_on_another_socket(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.converge([house.placement()])
        (before,) = await all_ready(fleet, 1)
        seen = await fleet.changed(-1)
        os.kill(before.pid or 0, signal.SIGKILL)
        seen = await fleet.changed(seen)
        (waiting,) = fleet.workers()
        assert (waiting.state, waiting.pid, waiting.endpoint) == (WAITING, None, "")
        assert waiting.reason.startswith("worker digits/1 was killed by SIGKILL; starting again in")
        after = await only_worker(fleet, READY)
        assert (after.id, after.restarts) == (before.id, 1)
        assert after.pid != before.pid
        assert after.endpoint != before.endpoint
        await fleet.close(drain=True)

    run(story())


def test_a_gentle_worker_lives_on_when_its_version_takes_traffic_and_comes_back_as_an_urgent_one(house: House):
    async def story() -> None:
        started: list[bool] = []

        def command(spec: WorkerSpec) -> list[str]:
            started.append(spec.gentle)
            return standin_command(spec)

        fleet = house.fleet(command=command)
        await fleet.adopt()
        candidate = replace(house.placement(), gentle=True)
        await fleet.converge([candidate])
        before = await only_worker(fleet, READY)
        await fleet.converge([replace(candidate, gentle=False)])
        assert fleet.workers() == (before,)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        await eventually(lambda: len(started) == 2, "started again")
        await only_worker(fleet, READY)
        assert started == [True, False]
        await fleet.close(drain=True)

    run(story())


def test_a_crash_loop_is_broken_with_its_last_words_until_its_placement_changes(house: House):
    async def story() -> None:
        fleet = house.fleet()
        place = house.placement(exit=1, says="OSError: libfoo.so not found")
        await fleet.converge([place])
        broken = await only_worker(fleet, BROKEN)
        assert "exited with code 1: OSError: libfoo.so not found; died 5 times" in broken.reason
        await fleet.converge([place])
        assert (await only_worker(fleet, BROKEN)).restarts == 4
        behave(Path(place.package))
        await fleet.converge([replace(place, replicas=2)])
        assert [w.restarts for w in await all_ready(fleet, 2)] == [5, 0]
        await fleet.close(drain=True)

    run(story())


def test_a_bad_package_is_broken_at_once_until_somebody_asks_for_a_retry(house: House):
    async def story() -> None:
        fleet = house.fleet()
        place = house.placement(exit=3, says="package sha256-1: file model.tflite changed after registration")
        await fleet.converge([place])
        broken = await only_worker(fleet, BROKEN)
        assert broken.restarts == 0
        assert broken.reason.startswith(
            "worker digits/1 exited with code 3: package sha256-1: file model.tflite changed after registration;"
        )
        behave(Path(place.package))
        assert fleet.retry("digits", 2) == 0
        assert fleet.retry("digits", 1) == 1
        await all_ready(fleet, 1)
        await fleet.close(drain=True)

    run(story())


def test_a_stopped_worker_leaves_the_table_and_is_replaced_when_it_does_not_come_back(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.converge([house.placement()])
        (before,) = await all_ready(fleet, 1)
        os.kill(before.pid or 0, signal.SIGSTOP)
        suspect = await only_worker(fleet, STARTING)
        assert suspect.pid == before.pid
        assert "takes no traffic" in suspect.reason
        os.kill(before.pid or 0, signal.SIGCONT)
        assert (await only_worker(fleet, READY)).pid == before.pid
        os.kill(before.pid or 0, signal.SIGSTOP)
        await eventually(lambda: fleet.workers()[0].restarts == 1, "the stopped worker was replaced")
        assert (await only_worker(fleet, READY)).pid != before.pid
        await fleet.close(drain=True)

    run(story())


def test_a_worker_that_says_it_is_not_ready_takes_no_traffic_and_is_not_killed(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.converge([house.placement(ready=False)])
        await eventually(lambda: Path(fleet.workers()[0].endpoint).exists(), "it listens")
        (worker,) = fleet.workers()
        assert (worker.state, worker.restarts) == (STARTING, 0)
        await fleet.close(drain=True)

    run(story())


def test_a_restarted_control_plane_adopts_its_workers_and_starts_no_twins(house: House):
    async def story() -> None:
        wanted = [house.placement(replicas=2), house.placement(2, Color.GREEN)]
        first = house.fleet()
        await first.converge(wanted)
        before = await all_ready(first, 3)
        await first.close(drain=False)
        assert house.running() == sorted(w.pid for w in before if w.pid)

        second = house.fleet()
        await second.adopt()
        assert facts(second.workers()) == facts(before), "adopt returns when it is known who takes traffic"
        await second.converge(wanted)
        assert facts(second.workers()) == facts(before)
        os.kill(before[0].pid or 0, signal.SIGKILL)
        await eventually(lambda: second.workers()[0].restarts == 1, "an adopted worker that dies is started again")
        await all_ready(second, 3)
        await second.close(drain=True)

    run(story())


def facts(workers: tuple[WorkerStatus, ...]) -> list[tuple[str, int | None, str, WorkerState]]:
    return [(w.id, w.pid, w.endpoint, w.state) for w in workers]


def test_what_died_while_nobody_watched_is_started_anew(house: House):
    async def story() -> None:
        first = house.fleet()
        await first.converge([house.placement()])
        (before,) = await all_ready(first, 1)
        await first.close(drain=False)
        os.kill(before.pid or 0, signal.SIGKILL)
        second = house.fleet()
        await eventually(lambda: house.running() == [], "the killed worker is gone")
        await second.adopt()
        assert second.workers() == ()
        assert list(house.sockets.iterdir()) == []
        await second.converge([house.placement()])
        assert (await all_ready(second, 1))[0].pid != before.pid
        await second.close(drain=True)

    run(story())


def test_a_worker_adopted_while_it_loads_is_given_its_time(house: House, tmp_path: Path):
    async def story() -> None:
        gate = tmp_path / "gate"
        place = house.placement(listen_after=str(gate))
        first = house.fleet()
        await first.converge([place])
        await eventually(lambda: fleet_pid(first) is not None, "it was spawned")
        pid = fleet_pid(first)
        await first.close(drain=False)
        second = house.fleet()
        await second.adopt()
        await second.converge([place])
        assert (fleet_pid(second), second.workers()[0].state) == (pid, STARTING)
        gate.touch()
        assert (await only_worker(second, READY)).pid == pid
        await second.close(drain=True)

    run(story())


def fleet_pid(fleet: ProcessFleet) -> int | None:
    return fleet.workers()[0].pid if fleet.workers() else None


def test_what_is_not_wanted_after_a_restart_is_drained(house: House):
    async def story() -> None:
        first = house.fleet()
        await first.converge([house.placement()])
        await all_ready(first, 1)
        await first.close(drain=False)
        second = house.fleet()
        await second.adopt()
        await second.converge([])
        assert [w.state for w in second.workers()] == [DRAINING]
        await eventually(lambda: second.workers() == (), "drained")
        await second.close(drain=True)

    run(story())


def test_a_worker_spawned_a_moment_before_the_crash_is_found_by_its_mark(house: House):
    """The control plane dies after spawning and before recording the pid: the ledger holds the intent only."""

    async def story() -> None:
        first = house.fleet()
        await first.converge([house.placement()])
        (before,) = await all_ready(first, 1)
        await first.close(drain=False)
        (record,) = house.ledger.processes()
        house.ledger.save_process(replace(record, pid=None, start_ticks=None))

        second = house.fleet()
        await second.adopt()
        await second.converge([house.placement()])
        assert facts(second.workers()) == facts((before,))
        assert house.ledger.processes() == [record]
        await second.close(drain=True)

    run(story())


def test_a_worker_nobody_recorded_is_ended(house: House):
    """As after a disk so full that neither intent nor pid could be written."""

    async def story() -> None:
        house.ledger.broken = True
        first = house.fleet()
        await first.converge([house.placement()])
        (unrecorded,) = await all_ready(first, 1)
        await first.close(drain=False)
        house.ledger.broken = False
        assert house.ledger.processes() == []

        second = house.fleet()
        await second.adopt()
        assert second.workers() == ()
        await eventually(lambda: unrecorded.pid not in house.running(), "the unrecorded worker ended")
        await second.close(drain=True)

    run(story())


def test_a_full_disk_does_not_keep_a_worker_from_coming_back(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.converge([house.placement()])
        (before,) = await all_ready(fleet, 1)
        house.ledger.broken = True
        os.kill(before.pid or 0, signal.SIGKILL)
        await eventually(lambda: fleet.workers()[0].restarts == 1, "started again")
        await only_worker(fleet, READY)
        house.ledger.broken = False
        await fleet.close(drain=True)

    run(story())


def test_a_recycled_pid_and_other_homes_are_not_touched(house: House, tmp_path: Path):
    async def story() -> None:
        env = child_environment(os.environ, fleet=fleet_token(tmp_path / "other home"), process="digits-1-blue-0@aa")
        stranger = spawn(Command(("/bin/sleep", "600"), env, tmp_path / "stranger.log"))
        first = house.fleet()
        await first.converge([house.placement()])
        (worker,) = await all_ready(first, 1)
        await first.close(drain=False)
        (record,) = house.ledger.processes()
        os.kill(worker.pid or 0, signal.SIGKILL)
        house.ledger.save_process(replace(record, pid=stranger.pid, start_ticks=stranger.identity.start_ticks))
        second = house.fleet()
        await second.adopt()
        assert second.workers() == ()
        assert house.ledger.processes() == []
        await second.close(drain=True)
        stat = process_stat(stranger.pid)
        assert stat is not None
        assert not stat.dead
        stranger.signal(signal.SIGKILL)
        await stranger.wait()

    run(story())


def test_records_of_envoy_are_left_to_envoy(house: House):
    async def story() -> None:
        envoy = ProcessRecord("envoy", ProcessKind.ENVOY, "", 0, "", 0, 1, 1, "", "{}", 0.0)
        house.ledger.save_process(envoy)
        fleet = house.fleet()
        await fleet.adopt()
        assert house.ledger.processes() == [envoy]
        await fleet.close(drain=True)

    run(story())


def test_draining_is_bounded_for_workers_that_do_not_listen(house: House):
    async def story() -> None:
        fleet = house.fleet(settings=replace(QUICK, drain_seconds=0.1, grace_margin=0.1))
        await fleet.converge([house.placement(deaf=True)])
        await all_ready(fleet, 1)
        await fleet.converge([])
        await eventually(lambda: fleet.workers() == (), "the deaf worker was killed")
        await fleet.close(drain=True)

    run(story())


def test_scaling_down_ends_what_serves_least(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.converge([house.placement(replicas=2)])
        workers = await all_ready(fleet, 2)
        os.kill(workers[0].pid or 0, signal.SIGSTOP)
        await eventually(lambda: fleet.workers()[0].state is STARTING, "the stopped one is suspect")
        os.kill(workers[0].pid or 0, signal.SIGCONT)
        await fleet.converge([house.placement(replicas=1)])
        await eventually(lambda: len(fleet.workers()) == 1, "one is left")
        await fleet.close(drain=True)

    run(story())


def test_a_closed_fleet_starts_nothing(house: House):
    async def story() -> None:
        fleet = house.fleet()
        await fleet.close(drain=True)
        with pytest.raises(Unavailable, match="the fleet is closed"):
            await fleet.converge([house.placement()])

    run(story())


def test_a_socket_folder_that_is_too_deep_is_refused_by_name(house: House, tmp_path: Path):
    with pytest.raises(InvalidInput, match=r"Unix allows 107; choose a shorter one"):
        house.fleet(sockets=tmp_path / ("x" * 90))


def test_relative_homes_work_although_workers_run_elsewhere(house: House, monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        monkeypatch.chdir(house.root)
        place = replace(house.placement(), package="package-1")
        seen: list[str] = []

        def command(spec: WorkerSpec) -> list[str]:
            seen.append(spec.package)
            return standin_command(spec)

        fleet = house.fleet(logs=Path("home/logs"), command=command)
        await fleet.converge([place])
        await all_ready(fleet, 1)
        await fleet.close(drain=True)
        assert seen == [str(house.root / "package-1")]
        assert (house.home / "logs" / "worker-digits-1-blue-0.log").exists()

    run(story())
