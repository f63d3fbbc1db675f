"""The gateway that compose.yaml has: nginx with its own configuration, in front of APIs on ports of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from .calls import call
from .ports import free_port
from .prefect_server import eventually
from .processes import Processes

__all__ = ["start_gateway"]

CONFIGURATION = Path(__file__).parents[2] / "deployments" / "api-gateway.conf"
# What stands there for Docker's DNS and for the containers' port.
_THERE = ("    resolver 127.0.0.11 valid=5s ipv6=off;\n", "listen 8000;", "http://$replicas:8000;")


def start_gateway(processes: Processes, ports: list[int]) -> str:
    """Start it; its address.

    Args:
        processes: Ends it.
        ports: Of the APIs.
    """
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    port, folder = free_port(), processes.folder
    server = CONFIGURATION.read_text()
    for there, here in zip(_THERE, ("", f"listen 127.0.0.1:{port};", "http://$replicas;"), strict=True):
        assert there in server
        server = server.replace(there, here)
    replicas = " ".join(f"server 127.0.0.1:{each};" for each in ports)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    file = folder / "nginx.conf"
    file.write_text(
        f"user {pwd.getpwuid(os.getuid()).pw_name}; worker_processes 1; daemon off; pid {folder}/nginx.pid;\n"
        f"error_log {folder}/nginx-error.log; events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; {places}\nupstream api {{ {replicas} }}\n{server}}}\n"
    )
    process = processes.start("nginx", nginx, "-e", f"{folder}/nginx-error.log", "-c", str(file))
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, processes.log("nginx")
        try:
            return call(f"{url}/healthz").status == 200
        except OSError:
            return False

    eventually(answers, within=300)
    return url
