"""One command for a whole installation: it comes up, says where, mends itself, and leaves nothing when it goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ..support.installation import Installation, running
from ..support.prefect_server import eventually

pytestmark = pytest.mark.prefect


def up(home: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    """`autoscorer up` where it is to fail at once: exit code, envelope, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", "up", *arguments],
        env={**os.environ, "AUTOSCORER_HOME": str(home), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


# --- it is up -------------------------------------------------------------------------------------------------


def test_it_says_its_addresses_when_all_is_ready_and_they_answer(installation: Installation) -> None:
    answer = installation.answer
    assert answer is not None
    assert installation.is_ready()
    assert installation.prefect("GET", "/health") is True
    assert answer["data"]["api"] == installation.url
    assert "tokens" in answer["data"]["access"] and "sign_in" not in answer["data"]
    pids = installation.pids()
    assert [len(pids[kind]) for kind in ("up", "server", "api", "workers")] == [1, 1, 1, 1]
    ui = installation.prefect("GET", "/admin/settings")["server"]["ui"]
    assert ui["api_url"] == installation.prefect_url


def test_a_submitted_workspace_is_scored(installation: Installation) -> None:
    installation.workspace("up-scored")
    status, envelope = installation.call("POST", "/submit", {"action": "score", "workspace": "up-scored"})
    assert status == 202, envelope
    task = installation.finished(envelope["data"]["id"])
    assert task["state"] == "completed"
    assert task["result"]["summary"]["score"] == 1.0


def test_every_process_that_is_killed_comes_back(installation: Installation) -> None:
    for kind in ("api", "workers", "server"):
        (victim,) = installation.pids()[kind]
        os.kill(victim, signal.SIGKILL)

        def back(kind: str = kind, victim: int = victim) -> bool:
            now = installation.pids()[kind]
            return len(now) == 1 and now != [victim] and installation.is_ready()

        eventually(back, within=300)
    installation.workspace("up-after")
    status, envelope = installation.call("POST", "/submit", {"action": "score", "workspace": "up-after"})
    assert status == 202, envelope
    assert installation.finished(envelope["data"]["id"])["state"] == "completed"


def test_a_second_one_on_the_same_home_is_refused_and_disturbs_nothing(installation: Installation) -> None:
    before = installation.pids()
    code, envelope, _ = up(installation.home, "--api-port", "0", "--prefect-port", "0")
    assert code == 2
    assert envelope["error"]["code"] == "CONFLICT"
    assert installation.url in envelope["error"]["message"]
    assert installation.pids() == before


# --- it is told at once what is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--api-port", "--prefect-port"])
def test_a_port_that_is_taken_is_told_before_anything_starts(home: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ports = {"--api-port": "0", "--prefect-port": "0", option: port}
        code, envelope, _ = up(home, *[part for pair in ports.items() for part in pair])
    assert code == 2
    assert envelope["error"]["code"] == "CONFLICT"
    assert port in envelope["error"]["message"] and option in envelope["error"]["message"]
    assert not list(home.glob("logs/*"))


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (("--database", "mysql://u:pw-7h1s@h/x"), {}, "postgresql+asyncpg://"),
        (("--workers", "0"), {}, "from 1 to 64"),
        (("--api-port", "99999"), {}, "from 0 to 65535"),
        (("--host", "192.0.2.1"), {}, "address of this machine"),
        ((), {"AUTOSCORER_PREFECT__API_URL": "http://prefect:4200/api"}, "prefect.api_url"),
    ],
)
def test_a_wrong_argument_is_told_with_what_to_give(
    home: Path, arguments: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    code, envelope, errors = up(home, "--api-port", "0", "--prefect-port", "0", *arguments, **environment)
    assert code == 2
    assert expected in envelope["error"]["message"]
    assert "pw-7h1s" not in json.dumps(envelope) + errors


def test_a_child_that_is_wrongly_configured_says_so_itself_and_nothing_stays(tmp_path: Path) -> None:
    # Open to the network, and no token asked for: the API refuses that.
    one = Installation(tmp_path, ("--host", "0.0.0.0"), {"AUTOSCORER_API_TOKENS": ""})
    with pytest.raises(AssertionError):
        one.start()
    assert one.process is not None
    assert one.process.wait(300) == 2
    assert one.answer is not None
    assert "token" in one.answer["error"]["message"]
    one.check_gone()


# --- it goes --------------------------------------------------------------------------------------------------


def test_two_at_once_do_not_meet_and_ctrl_c_stops_one_in_order(installation: Installation, tmp_path: Path) -> None:
    url = "sqlite+aiosqlite:///" + str(tmp_path / "secret-place.db")
    options = ("--workers", "2", "--database", url)
    with running(tmp_path, *options, PREFECT_HOME=str(tmp_path / "prefect")) as other:
        assert len({installation.url, other.url, installation.prefect_url, other.prefect_url}) == 4
        pids = other.pids()
        assert len(pids["workers"]) == 2
        other.workspace("ws")
        status, envelope = other.call("POST", "/submit", {"action": "score", "workspace": "ws"})
        assert status == 202, envelope
        assert other.finished(envelope["data"]["id"])["state"] == "completed"
        assert other.call("GET", "/tasks")[1]["data"]["total"] == 1
        # A task of one is unknown to the other; so is its token.
        path = f"/tasks/{envelope['data']['id']}"
        assert installation.call("GET", path)[0] == 404
        token = {"authorization": f"Bearer {installation.token('admin')}"}
        assert other.call("GET", path, role=None, headers=token)[0] == 401

        # A database's address is seen in no list of processes and in no log.
        assert all("secret-place" not in command for command in other.processes().values())
        assert (tmp_path / "secret-place.db").exists()
        assert "secret-place" not in other.errors
        assert (tmp_path / "prefect").is_dir()
        assert not (other.home / "prefect").exists()

        ended: dict[str, float] = {}
        assert other.process is not None
        other.process.send_signal(signal.SIGINT)
        while other.process.poll() is None or len(ended) < 3:
            for kind in ("api", "workers", "server"):
                if kind not in ended and not any(Path(f"/proc/{pid}").exists() for pid in pids[kind]):
                    ended[kind] = time.monotonic()
            time.sleep(0.005)
        assert other.process.wait() == 0
        assert ended["api"] <= ended["workers"] <= ended["server"]
        other.check_gone()
    assert installation.is_ready()


def test_kill_9_leaves_nothing_and_it_starts_again_knowing_its_tasks(installation: Installation) -> None:
    installation.workspace("up-known")
    status, envelope = installation.call("POST", "/submit", {"action": "score", "workspace": "up-known"})
    assert status == 202, envelope
    installation.kill()
    installation.check_gone()
    installation.start()
    assert installation.is_ready()
    assert installation.finished(envelope["data"]["id"])["state"] == "completed"


def test_what_a_killed_one_left_running_is_ended_by_the_next_start(tmp_path: Path) -> None:
    from autoscorer.core.processes import ProcessIdentity

    one = Installation(tmp_path)
    one.home.mkdir(parents=True)
    # As if the kernel had not told it that its parent died.
    with subprocess.Popen(["sleep", "300"], env=one.environment, start_new_session=True) as left:
        other = ProcessIdentity.of(os.getpid())
        children = {
            "server": {"pid": left.pid, "owner": ProcessIdentity.of(left.pid).text},
            # The number was given to another process since; that one must live. So must this test's own.
            "api": {"pid": os.getpid(), "owner": other.text[:-1] + ("1" if other.text[-1] != "1" else "2")},
        }
        (one.home / "up.lock").write_text(json.dumps({"pid": 1, "children": children}))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            code, envelope, errors = up(one.home, "--api-port", str(taken.getsockname()[1]), "--prefect-port", "0")
        assert code == 2, envelope
        assert left.wait(60) in (-signal.SIGTERM, -signal.SIGKILL)
        assert "server of a former" in errors
        assert "api of a former" not in errors
