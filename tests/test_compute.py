"""Folds and runs give the same numbers on one machine and on several.

What is killed costs time, and nothing that was finished is lost or run again.
"""
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
from distributed import LocalCluster
from threadpoolctl import threadpool_info

from fer_research import compute
from fer_research.compute import VARIABLE, parallel_map
from fer_research.core import InputError

RUNS = '''
import sys, time
from pathlib import Path
from fer_research.compute import resumable_map
folder = Path(sys.argv[1])


def run(number):
    import os
    with (folder / f"{number}.log").open("a") as log: log.write(f"{os.getpid()}\\n")
    while number > 1 and not (folder / "go").exists(): time.sleep(0.1)
    return {"square": number**2}


if __name__ == "__main__":
    found = resumable_map(run, range(4), folder / "kept", workers=2, unit="run")
    print([one["square"] for one in found])
'''


def wait_for(condition, what: str, seconds: float = 30):
    "The first true value of `condition()`."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition(): return found
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} s for {what}")


@pytest.fixture(scope="module")
def cluster():
    "Two workers on the loopback address; one that is killed is started again."
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


@pytest.fixture(params=["local", "dask"])
def engine(request, monkeypatch) -> None:
    "Once on this machine, once on the cluster."
    if request.param == "dask": ask(monkeypatch, request.getfixturevalue("cluster").scheduler_address)


def ask(monkeypatch, address: str) -> None:
    "Ask for the cluster at an address."
    monkeypatch.setenv(VARIABLE, json.dumps({"engine": "dask", "address": address}))


@pytest.fixture
def dask_engine(cluster, monkeypatch) -> None:
    ask(monkeypatch, cluster.scheduler_address)


def numbers(seed: int) -> tuple[bytes, str, set[int]]:
    "What depends on the threads of BLAS, and on the environment."
    X = np.random.default_rng(seed).normal(size=(700, 500))
    factors = np.linalg.svd(X.T @ X)
    threads = {library["num_threads"] for library in threadpool_info()}
    return b"".join(factor.tobytes() for factor in factors), os.getcwd(), threads


@pytest.mark.parametrize("tasks", [1, 3])
def test_numbers_are_those_of_one_machine(tasks, cluster, monkeypatch):
    here = parallel_map(numbers, range(tasks))
    ask(monkeypatch, cluster.scheduler_address)
    assert parallel_map(numbers, range(tasks)) == here
    assert [one[-1] for one in here] == [{1}] * tasks


@pytest.mark.parametrize(("tasks", "workers"), [(1, None), (3, 1)])
def test_one_process_is_another_one_too(tasks, workers):
    processes = parallel_map(process, range(tasks), workers)
    assert os.getpid() not in {number for number, _, _ in processes}
    assert all(end <= begin for (_, _, end), (_, begin, _) in pairwise(processes)), "at the same time"


def process(_: int) -> tuple[int, float, float]:
    "The process that computes, and when it began and ended."
    begin = time.monotonic()
    time.sleep(0.2)
    return os.getpid(), begin, time.monotonic()


def waiting(task: tuple[Path, int]) -> int:
    "Squares a number, having noted its process and the one that started it; only 0 does not wait for a go."
    folder, number = task
    with (folder / f"{number}.log").open("a") as log: log.write(f"{os.getpid()} {os.getppid()}\n")
    while number and not (folder / "go").exists(): time.sleep(0.05)
    return number**2


def started(folder: Path, number: int) -> list[list[int]]:
    "A line for each time that a task was started."
    path = folder / f"{number}.log"
    return [[int(word) for word in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("victim", [0, 1], ids=["the process", "the worker"])
def test_what_is_killed_in_the_middle_costs_time_only(victim, dask_engine, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(parallel_map, waiting, [(tmp_path, number) for number in (0, 3, 1)])
        try:
            wait_for(lambda: sum(bool(started(tmp_path, number)) for number in range(4)) == 3,
                     "one task done and two under way")
            family = [psutil.Process(pid) for pid in started(tmp_path, 3)[0]]
            family[victim].kill()
            assert not psutil.wait_procs(family[:1], timeout=60)[1], "a task is computed for nobody"
            wait_for(lambda: len(started(tmp_path, 3)) == 2, "the task to be started again")
        finally: (tmp_path / "go").touch()
        assert found.result(timeout=30) == [0, 9, 1]
    assert [len(started(tmp_path, number)) for number in (0, 3)] == [1, 2]


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_what_was_finished_before_a_run_was_killed_is_not_run_again(engine, request, tmp_path):
    (tmp_path / "runs.py").write_text(RUNS)
    asked = json.dumps({"engine": "local"} if engine == "local"
                       else {"engine": "dask", "address": request.getfixturevalue("cluster").scheduler_address})
    again = dict(args=[sys.executable, tmp_path / "runs.py", tmp_path],
                 env=os.environ | {VARIABLE: asked, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True)
    kept = lambda: {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("kept/run-*.npz")}
    with subprocess.Popen(**again, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(kept()) == 2 and started(tmp_path, 2) and started(tmp_path, 3),
                 "two runs done and two under way")
        under_way = [psutil.Process(started(tmp_path, number)[0][0]) for number in (2, 3)]  # as long as they are there
        process.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs(under_way, timeout=60)[1], "runs go on for nobody"
    before = kept()
    (tmp_path / "go").touch()
    assert subprocess.check_output(**again, stderr=subprocess.DEVNULL, timeout=60) == "[0, 1, 4, 9]\n"
    assert [len(started(tmp_path, number)) for number in range(4)] == [1, 1, 2, 2]
    assert before.items() < kept().items() and len(kept()) == 4


def one_wrong(task: tuple[Path, int]) -> int:
    "Fails as soon as the others have started."
    if task[1] == 3: return waiting(task)
    wait_for(lambda: started(task[0], 3), "the other task")
    raise InputError("fold 2: no faces")


def test_an_error_arrives_as_itself_and_ends_the_other_tasks(engine, tmp_path):
    with pytest.raises(InputError) as error: parallel_map(one_wrong, [(tmp_path, 3), (tmp_path, 2)], workers=2)
    assert str(error.value) == "fold 2: no faces"
    assert "in one_wrong" in "".join(traceback.format_exception(error.value)), "where it happened is told as well"
    assert wait_for(lambda: not psutil.pid_exists(started(tmp_path, 3)[0][0]), "the other task to end", 15)


@pytest.fixture
def by_hand(tmp_path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    "The address of a scheduler that was started as the guide says, itself, and its worker."
    here = "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"
    run = lambda *command: subprocess.Popen([sys.executable, "-m", "dask", *command, *here], stderr=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free: port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    processes = [run("scheduler", "--port", port),
                 run("worker", address, "--nthreads", "1", "--local-directory", str(tmp_path))]
    yield address, processes
    for process in processes: process.terminate()
    for process in processes: process.wait(10)


def test_a_lost_scheduler_is_told_and_nobody_goes_on(by_hand, tmp_path, monkeypatch):
    address, (scheduler, worker) = by_hand
    ask(monkeypatch, address)
    wait_for(lambda: not socket.socket().connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))), "the scheduler")
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(parallel_map, waiting, [(tmp_path, 1)])
        process = psutil.Process(wait_for(lambda: started(tmp_path, 1), "the task to start")[0][0])
        scheduler.kill()
        assert not psutil.wait_procs([process], timeout=60)[1], "a task is computed for nobody"
        assert worker.wait(10) is not None
        assert isinstance(found.exception(timeout=30), CancelledError)
        assert "lost the connection to the scheduler" in str(found.exception())


def test_a_task_has_the_modules_and_the_folder_of_who_asks(dask_engine, tmp_path, monkeypatch):
    (modules := tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(modules)
    monkeypatch.chdir(tmp_path)
    for number in (1, 222):  # another length: what Python has compiled goes by time and size
        answer = f"{number}, os.getcwd(), os.environ.get('FER_RESEARCH_STAGE')"
        (modules / "edited.py").write_text(f"import os\ndef where(task): return {answer}\n")
        monkeypatch.setenv("FER_RESEARCH_STAGE", str(number))
        where = importlib.import_module("edited").where
        assert parallel_map(where, [0]) == [(number, str(tmp_path), str(number))]


def test_a_cluster_without_this_clone_says_what_is_missing(dask_engine, tmp_path, monkeypatch):
    start = compute._start() | {"cwd": str(tmp_path / "elsewhere")}
    monkeypatch.setattr(compute, "_start", lambda: start)
    missing = "has no .*elsewhere: clone and environment must be on a file system that all share"
    with pytest.raises(InputError, match=missing): parallel_map(abs, [1])


@pytest.fixture
def silent():
    "The address of a server that says nothing."
    with socket.create_server(("127.0.0.1", 0)) as server: yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_where_no_scheduler_answers_it_is_said_soon(silent, monkeypatch):
    monkeypatch.setattr(compute, "_PATIENCE", 1)
    for address in (silent, "tcp://127.0.0.1:1", "tcp://nowhere.invalid:8786", "tcp://127.0.0.1", "127.0.0.1:99999999"):
        ask(monkeypatch, address)
        begun = time.monotonic()
        with pytest.raises(InputError) as error: parallel_map(abs, [1])
        assert f"compute: address: {address}: no scheduler" in str(error.value)
        assert "`dask scheduler`" in str(error.value)
        assert time.monotonic() - begun < 5


def test_a_scheduler_without_workers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(compute, "_PATIENCE", 1)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty:
        ask(monkeypatch, empty.scheduler_address)
        with pytest.raises(InputError, match="has no workers; start some with `dask worker"): parallel_map(abs, [1])
        assert parallel_map(abs, []) == []


@pytest.mark.parametrize("text", ["dask", "[]", '{"engine": "dask"}', '{"engine": "spark"}'])
def test_an_unusable_variable_is_named(text, monkeypatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError, match=f"^{VARIABLE}="): parallel_map(abs, [1])


@pytest.mark.parametrize("missing", ["distributed", "dask_jobqueue"])
def test_without_the_extra_it_is_named(missing, dask_engine, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"{missing} not installed: `pip install -e '.\[cluster\]'`"):
        parallel_map(abs, [1])


def test_one_machine_needs_no_dask():
    modules = ("import sys, fer_research.compute; "
               "print({name.split('.')[0] for name in sys.modules} & {'dask', 'distributed', 'dask_jobqueue'})")
    assert subprocess.check_output([sys.executable, "-c", modules], text=True) == "set()\n"


SLURM = {"queue": "cpu", "cores": 4, "memory": "16 GB", "walltime": "02:00:00"}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    for name in ("params.yaml", "settings.ini"): (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_job_of_slurm_is_what_was_asked_for(repository):
    with dask.config.set({"jobqueue.slurm.account": "faces"}), compute._slurm_cluster(**SLURM) as cluster:
        script = cluster.job_script()
        for line in ("-p cpu", "-A faces", "--cpus-per-task=4", "--mem=15G", "-t 02:00:00"):
            assert f"#SBATCH {line}\n" in script
        assert f"{sys.executable} -m distributed.cli.dask_worker tls://" in script and "--nthreads 4 " in script
        assert "--nworkers" not in script
        certificates = [word for word in script.split() if word.startswith(str(repository / "scratch" / "dask"))]
        assert len(certificates) == 3
        assert all(Path(path).stat().st_mode & 0o077 == 0 for path in (*certificates, repository / "scratch" / "dask"))
        port = int(cluster.scheduler_address.rpartition(":")[2])
        listening = [own.laddr for own in psutil.Process().net_connections() if own.status == psutil.CONN_LISTEN]
        outside = {address.port for address in listening if address.ip != "127.0.0.1"}
        assert outside == {port}, "only what speaks TLS can be reached from elsewhere"


def test_slurm_is_asked_for_where_it_is(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    monkeypatch.setenv(VARIABLE, json.dumps({"engine": "dask", "slurm": SLURM | {"jobs": 2}}))
    with pytest.raises(InputError, match="no command sbatch here"): parallel_map(abs, [1])
