"""What the micro-batcher promises to callers. Every test is one claim."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import DeadlineExceeded, Internal, Overloaded, TooLarge, Unavailable
from contracts.limits import LIMITS
from contracts.signature import Signature, TensorSpec
from tests.serving.batching.bench import AT_ONCE, IN_THREAD, ON_LOOP, Bench, settle, values
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine, half_plus_two, identity


def test_what_gathered_while_the_engine_was_busy_leaves_together_when_it_is_free() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            first = bench.send(1)
            await settle()
            others = [bench.send(i) for i in range(2, 7)]
            await bench.run()
            assert bench.engine.runs == [1, 5]
            assert values(first) == [1]
            assert [values(f) for f in others] == [[2], [3], [4], [5], [6]]

    asyncio.run(story())


def test_rows_are_counted_and_not_requests() -> None:
    async def story() -> None:
        async with Bench(identity(), buckets=(1, 2, 4, 8)) as bench:
            bench.send(0)
            await settle()
            futures = [bench.send(*range(10 * i, 10 * i + 3)) for i in range(1, 5)]
            await bench.run()
            assert bench.engine.runs == [1, 6, 6]
            assert values(futures[3]) == [40, 41, 42]

    asyncio.run(story())


def test_a_request_bigger_than_the_biggest_bucket_is_split_and_joined_in_order() -> None:
    async def story() -> None:
        async with Bench(identity(), buckets=(1, 4, 8)) as bench:
            big = bench.send(*range(21))
            small = bench.send(100)
            await bench.run()
            assert values(big) == list(range(21))
            assert values(small) == [100]
            assert max(bench.engine.runs) == 8
            assert bench.batcher.queued_rows == 0

    asyncio.run(story())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def story() -> None:
        async with Bench(identity(), limits=replace(LIMITS, queue_rows=10)) as bench:
            bench.send(0)
            await settle()
            waiting = bench.send(*range(8))
            with pytest.raises(Overloaded, match="8 rows are waiting") as refusal:
                bench.send(1, 2, 3)
            assert refusal.value.retry_after >= 1
            await bench.run()
            assert values(waiting) == list(range(8))

    asyncio.run(story())


def test_the_queue_is_bounded_in_bytes() -> None:
    async def story() -> None:
        async with Bench(identity(), limits=replace(LIMITS, queue_bytes=40)) as bench:
            bench.send(0)
            await settle()
            bench.send(*range(8))
            with pytest.raises(Overloaded):
                bench.send(1, 2, 3)
            with pytest.raises(TooLarge):
                bench.send(*range(11))
            await bench.run()

    asyncio.run(story())


def test_the_queue_is_bounded_in_time_by_what_the_deadline_leaves() -> None:
    async def story() -> None:
        async with Bench(identity(), buckets=(1, 2)) as bench:
            bench.send(0)
            await settle()
            for i in range(20):
                bench.send(i, i)
            with pytest.raises(Overloaded, match="more than this request can wait"):
                bench.send(1, seconds=IN_THREAD * 5)
            assert bench.send(1, seconds=IN_THREAD * 50)
            await bench.run()

    asyncio.run(story())


def test_nobody_waits_in_the_queue_longer_than_its_limit_whatever_was_expected() -> None:
    async def story() -> None:
        async with Bench(identity(), limits=replace(LIMITS, queue_seconds=2.0)) as bench:
            running = bench.send(1)
            await settle()
            waiting = bench.send(2)
            await bench.advance(1.9)
            assert not waiting.done()
            await bench.advance(0.2)
            with pytest.raises(Overloaded, match=r"waited 2\.\d s for its turn"):
                waiting.result()
            assert not running.done()
            await bench.run()
            assert values(running) == [1]
            assert bench.engine.runs == [1]

    asyncio.run(story())


def test_a_request_that_finds_nobody_before_it_is_always_tried() -> None:
    async def story() -> None:
        async with Bench(identity(), cost=5.0) as bench:
            future = bench.send(1, seconds=0.1)
            await bench.run()
            assert values(future) == [1]

    asyncio.run(story())


def test_expired_rows_are_answered_and_never_computed_while_their_batchmates_are() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            bench.send(0)
            await settle()
            late, fine = bench.send(1, seconds=0.05), bench.send(2, seconds=10)
            await bench.advance(0.06)
            assert isinstance(late.exception(), DeadlineExceeded)
            await bench.run()
            assert values(fine) == [2]
            assert bench.engine.runs == [1, 1]

    asyncio.run(story())


def test_a_request_whose_time_is_over_is_refused_without_compute() -> None:
    async def story() -> None:
        async with Bench(identity(), cost=AT_ONCE) as bench:
            rows = {"x": np.zeros(1, np.float32)}
            now = bench.clock.monotonic()
            with pytest.raises(DeadlineExceeded):
                bench.batcher.compute_now(HALF_PLUS_TWO, rows, 1, now)
            with pytest.raises(DeadlineExceeded):
                bench.batcher.submit(HALF_PLUS_TWO, rows, 1, now - 1)
            assert bench.engine.runs == []

    asyncio.run(story())


def test_a_departed_caller_leaves_its_batchmates_untouched() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            bench.send(0)
            await settle()
            before, gone, after = bench.send(1), bench.send(2, 2), bench.send(3)
            gone.cancel()
            await settle()
            assert bench.batcher.queued_rows == 2
            await bench.run()
            assert values(before) == [1]
            assert values(after) == [3]
            assert bench.engine.runs == [1, 2]

    asyncio.run(story())


def test_a_caller_who_leaves_during_the_run_shifts_nobodys_rows() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            bench.send(0)
            await settle()
            before, gone, after = bench.send(1), bench.send(2, 2), bench.send(3)
            await bench.run(1)
            gone.cancel()
            await bench.run()
            assert (values(before), values(after)) == ([1], [3])

    asyncio.run(story())


@pytest.mark.parametrize("cost", [IN_THREAD, ON_LOOP])
def test_one_bad_row_fails_alone_within_the_promised_number_of_runs(cost: float) -> None:
    async def story() -> None:
        async with Bench(identity(poison=37), cost=cost) as bench:
            futures = [bench.send(i) for i in range(64)]
            await bench.run()
            assert bench.engine.runs[0] == 64
            assert len(bench.engine.runs) <= 2 * 6 + 1
            for i, future in enumerate(futures):
                if i == 37:
                    error = future.exception()
                    assert isinstance(error, Internal)
                    assert "secret" not in error.message
                else:
                    assert values(future) == [i]

    asyncio.run(story())


def test_when_every_row_is_bad_the_search_adds_a_tenth_of_the_work_and_no_more() -> None:
    async def story() -> None:
        async with Bench(identity(poison=7), buckets=(1, 2, 4, 8)) as bench:
            sent = 0
            for turn in range(400):
                # Never twice the same request: nothing can be learned about it but that it is bad.
                futures = [bench.send(7, turn * 8 + i) for i in range(4)]
                sent += 1
                await bench.run()
                assert all(isinstance(f.exception(), Internal) for f in futures)
            saved_up = 2 * (2 + 4)  # two whole searches of the biggest batch, in runs of these callers
            assert len(bench.engine.runs) <= 4 * sent * 1.1 + saved_up

    asyncio.run(story())


def test_innocents_are_all_answered_while_every_batch_holds_bad_rows() -> None:
    async def story() -> None:
        async with Bench(identity(poison=7), buckets=(1, 2, 4, 8)) as bench:
            for turn in range(100, 300):
                futures = [bench.send(7, turn) if i % 2 else bench.send(i, turn) for i in range(8)]
                await bench.run()
                for i, future in enumerate(futures):
                    if i % 2:
                        assert isinstance(future.exception(), Internal)
                    else:
                        assert values(future) == [i, turn]
            assert len(bench.engine.runs) <= 200 * 8 * 1.1 + 2 * (2 + 4 + 8)

    asyncio.run(story())


def test_a_bad_request_that_is_sent_again_and_again_runs_alone_and_breaks_nobodys_batch() -> None:
    async def story() -> None:
        async with Bench(identity(poison=7)) as bench:
            for turn in range(5):
                before = len(bench.engine.runs)
                futures = [bench.send(i) for i in (1, 2, 7, 3)]
                await bench.run()
                assert [f.exception() is None for f in futures] == [True, True, False, True]
                runs = sorted(bench.engine.runs[before:])
                assert runs == [1, 3] if turn else runs[-1] == 4
            bench.engine.poison = None
            for _ in range(2):
                futures = [bench.send(i) for i in (1, 2, 7, 3)]
                await bench.run()
                assert values(futures[2]) == [7]
            assert bench.engine.runs[-1] == 4, "what succeeded is in company again"

    asyncio.run(story())


def test_batches_never_mix_signatures_or_shapes() -> None:
    wide = Signature(
        "wide", (TensorSpec("x", "float32", (None, None)),), (TensorSpec("y", "float32", (None, None)),), batched=True
    )

    async def story() -> None:
        async with Bench(identity(), signatures=(HALF_PLUS_TWO, wide)) as bench:
            bench.send(0)
            await settle()
            end = bench.clock.monotonic() + 100
            futures = [
                bench.batcher.submit(wide, {"x": np.full((1, width), width, np.float32)}, 1, end) for width in (2, 3, 2)
            ]
            plain = bench.send(5)
            await bench.run()
            assert bench.engine.runs == [1, 2, 1, 1]
            assert [f.result()["y"].tolist() for f in futures] == [[[2, 2]], [[3, 3, 3]], [[2, 2]]]
            assert values(plain) == [5]

    asyncio.run(story())


def test_the_wrong_number_of_rows_fails_that_batch_only_and_shifts_nothing() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            bench.engine.broken_rows = 1
            bad = [bench.send(i) for i in range(4)]
            await bench.run()
            assert all("4 rows with 3 rows" in str(f.exception()) for f in bad)
            assert bench.facts.wrongs == ["the model answered 4 rows with 3 rows of output 'y'"]
            assert bench.engine.runs == [4]
            bench.engine.broken_rows = 0
            good = bench.send(9)
            await bench.run()
            assert values(good) == [9]

    asyncio.run(story())


def test_a_signature_whose_rows_must_not_be_joined_runs_every_request_alone_and_as_sent() -> None:
    alone = Signature(
        "serving_default", (TensorSpec("x", "float32", None),), (TensorSpec("y", "float32", None),), False
    )

    async def story() -> None:
        shapes: list[tuple[int, ...]] = []

        def remember(inputs):  # type: ignore[no-untyped-def]
            shapes.append(inputs["x"].shape)
            return {"y": inputs["x"].sum()[None]}

        async with Bench(FormulaEngine(remember), signatures=(alone,)) as bench:
            end = bench.clock.monotonic() + 100
            arrays = [np.ones((2, 3), np.float32), np.ones(5, np.float32), np.ones((2, 3), np.float32)]
            futures = [bench.batcher.submit(alone, {"x": a}, 1, end) for a in arrays]
            await bench.run()
            assert shapes == [(2, 3), (5,), (2, 3)]
            assert [values(f) for f in futures] == [[6], [5], [6]]

    asyncio.run(story())


def test_closing_answers_everybody_who_waits_and_refuses_who_comes() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            running, waiting = bench.send(1), bench.send(2)
            await settle()
            await bench.batcher.close()
            await settle()
            for future in (running, waiting):
                assert isinstance(future.exception(), Unavailable)
            with pytest.raises(Unavailable):
                bench.send(3)

    asyncio.run(story())


def test_a_run_that_hangs_costs_callers_their_deadline_and_is_reported_after_thirty_seconds() -> None:
    async def story() -> None:
        async with Bench(identity()) as bench:
            stuck, behind = bench.send(1, seconds=5), bench.send(2, seconds=8)
            await settle()
            await bench.advance(6)
            assert isinstance(stuck.exception(), DeadlineExceeded)
            assert not behind.done()
            await bench.advance(3)
            assert isinstance(behind.exception(), DeadlineExceeded)
            assert bench.hangs == 0
            await bench.advance(22)
            assert bench.hangs == 1
            with pytest.raises(Unavailable):
                bench.send(3)

    asyncio.run(story())


def test_a_cheap_run_happens_at_once_without_a_future() -> None:
    async def story() -> None:
        async with Bench(half_plus_two(), cost=AT_ONCE) as bench:
            rows = {"x": np.array([1, 2], np.float32)}
            outputs = bench.batcher.compute_now(HALF_PLUS_TWO, rows, 2, bench.clock.monotonic() + 1)
            assert outputs is not None
            assert outputs["y"].tolist() == [2.5, 3.0]
            assert bench.facts.runs == [(2, 0, True)]

    asyncio.run(story())


def test_nothing_enters_the_engine_while_a_run_is_in_its_thread_even_if_all_its_callers_left() -> None:
    cheap = replace(HALF_PLUS_TWO, name="cheap")

    async def story() -> None:
        async with Bench(identity(), signatures=(HALF_PLUS_TWO, cheap)) as bench:
            curve = bench.batcher.curves["cheap"] = type(bench.batcher.curves["cheap"])((1, 2))
            curve.learn(1, AT_ONCE)
            caller = bench.send(1)
            await settle()
            caller.cancel()
            await settle()
            rows = {"x": np.zeros(1, np.float32)}
            assert bench.batcher.compute_now(cheap, rows, 1, bench.clock.monotonic() + 1) is None
            await bench.run()
            assert bench.batcher.compute_now(cheap, rows, 1, bench.clock.monotonic() + 1) is not None

    asyncio.run(story())


def test_middling_runs_gather_what_arrives_in_the_same_iteration_and_stay_on_the_loop() -> None:
    async def story() -> None:
        async with Bench(identity(), cost=ON_LOOP) as bench:
            futures = [bench.send(i) for i in range(5)]
            await settle()
            assert bench.executor.waiting == []
            assert bench.facts.runs == [(5, 3, True)]
            assert [values(f) for f in futures] == [[i] for i in range(5)]

    asyncio.run(story())


def test_after_the_loop_stood_still_batches_keep_their_size_and_callers_their_order() -> None:
    async def story() -> None:
        async with Bench(identity(), buckets=(1, 2, 4, 8)) as bench:
            futures = [bench.send(i) for i in range(30)]
            bench.clock.move(0.5)
            done: list[int] = []
            for i, future in enumerate(futures):
                future.add_done_callback(lambda _, i=i: done.append(i))
            await bench.run()
            assert max(bench.engine.runs) <= 8
            assert done == sorted(done)

    asyncio.run(story())


def test_a_request_is_refused_before_it_is_decoded_exactly_when_one_row_more_would_be_late() -> None:
    async def story() -> None:
        async with Bench(identity(), buckets=(1,)) as bench:
            clock = bench.clock.monotonic
            bench.batcher.check_room(clock() + IN_THREAD / 2)  # nobody is there: it is tried
            bench.send(0)
            await settle()
            for i in range(10):
                bench.send(i)
            with pytest.raises(Overloaded, match="more than this request can wait"):
                bench.batcher.check_room(clock() + 11 * IN_THREAD)
            bench.batcher.check_room(clock() + 30 * IN_THREAD)
            await bench.run()

    asyncio.run(story())


def test_a_run_leaves_behind_whoever_would_make_it_too_long_for_the_most_hurried() -> None:
    async def story() -> None:
        async with Bench(identity(), cost={1: 0.1, 2: 0.19, 4: 0.37, 8: 0.73}, buckets=(1, 2, 4, 8)) as bench:
            bench.send(0)
            await settle()
            hurried = bench.send(1, seconds=0.6)
            others = [bench.send(i) for i in range(2, 9)]
            await bench.run()
            assert max(bench.engine.runs) <= 4
            assert [values(future) for future in (hurried, *others)] == [[i] for i in range(1, 9)]

    asyncio.run(story())
