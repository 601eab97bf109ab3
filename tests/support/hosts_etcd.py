"""etcd on test hosts as it is run for real: a systemd unit, or a static pod beside a control plane."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from etcdguard.etcd.local import TlsFiles
from tests.support.certs import Authority, KeyPair
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.hosts import Host
from tests.support.hosts_image import ETCD_USER

__all__ = [
    "CONTROL_PLANE",
    "MANIFESTS",
    "STATIC_POD_TLS",
    "SYSTEMD_TLS",
    "HostCluster",
    "HostPki",
    "deploy_etcd",
    "deploy_static_pods",
    "initial_cluster",
    "install_kubelet",
    "pod_manifest",
    "remove_etcd",
]

MANIFESTS = "/etc/kubernetes/manifests"

CONTROL_PLANE = {"kube-apiserver": 6443, "kube-controller-manager": 10257, "kube-scheduler": 10259}
"""The pods beside etcd, and the ports on which they answer ``/livez`` and ``/readyz`` over plain HTTP."""

SYSTEMD_TLS = TlsFiles(
    ca=Path("/etc/etcd/pki/ca.crt"),
    cert=Path("/etc/etcd/pki/server.crt"),
    key=Path("/etc/etcd/pki/server.key"),
    client_cert=Path("/etc/etcd/pki/client.crt"),
    client_key=Path("/etc/etcd/pki/client.key"),
)
"""Where the files are on hosts with a systemd etcd."""

_KUBEADM_PKI = Path("/etc/kubernetes/pki/etcd")
STATIC_POD_TLS = TlsFiles(
    ca=_KUBEADM_PKI / "ca.crt",
    cert=_KUBEADM_PKI / "server.crt",
    key=_KUBEADM_PKI / "server.key",
    client_cert=_KUBEADM_PKI / "healthcheck-client.crt",
    client_key=_KUBEADM_PKI / "healthcheck-client.key",
)
"""Where kubeadm has them."""

_UNIT = """\
[Unit]
Description=etcd
After=network.target

[Service]
Type=notify
User={user}
Group={user}
ExecStart={command}
Restart=on-failure
RestartSec=1
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

# Containers live on when the kubelet stops, hence KillMode.
_KUBELET_UNIT = """\
[Unit]
Description=Stand-in for the kubelet
After=network.target

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
KillMode=process

[Install]
WantedBy=multi-user.target
"""

_EMPTY = """\
for folder in {patterns}; do
  if mountpoint -q "$folder"; then find "$folder" -mindepth 1 -delete; else rm -rf "$folder"; fi
done
"""

_SERVICES = ("etcd.service", "kubelet.service")
_FOLDERS = ("/etc/etcd", "/etc/kubernetes", "/run/kubelet-stand-in", "/var/log/pods")
_PROCESSES = ("kubelet", "etcd", *CONTROL_PLANE)
_PROBE_TIMEOUT = 2.0
_POLL_SECONDS = 0.1


class HostPki:
    """Certificates for etcd on hosts, in ``folder`` here: one CA, one client, a server for each host."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = Authority(folder, "ca")
        self._servers: dict[str, KeyPair] = {}
        self.ca = self._authority.path
        self.client = self._authority.issue("client")

    def server(self, host: Host) -> KeyPair:
        """For that host's address and for its loopback; also what it shows to its peers."""
        if host.address not in self._servers:
            names = (host.address, "127.0.0.1")
            self._servers[host.address] = self._authority.issue(f"server-{host.address}", addresses=names)
        return self._servers[host.address]

    def install(self, host: Host, files: TlsFiles, owner: str) -> None:
        """Put this host's files where ``files`` says."""
        server = self.server(host)
        for source, target in (
            (self.ca, files.ca),
            (server.cert, files.cert),
            (server.key, files.key),
            (self.client.cert, files.client_cert),
            (self.client.key, files.client_key),
        ):
            mode = 0o600 if target.suffix == ".key" else 0o644
            host.write(str(target), source.read_bytes(), mode=mode, owner=owner)


@dataclass(frozen=True)
class HostCluster:
    """etcd members on hosts; `etcdctl` and `tls` are for this machine."""

    hosts: tuple[Host, ...]
    programs: EtcdPrograms
    tls: TlsFiles
    data_dir: str
    wal_dir: str | None

    @property
    def client_urls(self) -> tuple[str, ...]:
        """One client URL for each member, in the order of ``hosts``."""
        return tuple(client_url(host) for host in self.hosts)

    @property
    def etcdctl(self) -> Etcdctl:
        """etcd's own client for it."""
        return Etcdctl(self.programs.etcdctl, self)

    def healthy(self, host: Host) -> bool:
        """Whether that member serves linearizable reads, which takes a leader."""
        connection = http.client.HTTPSConnection(
            host.address, 2379, timeout=_PROBE_TIMEOUT, context=self.tls.context()
        )
        try:
            connection.request("GET", "/health?exclude=NOSPACE")
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return False  # not listening yet, or ending
        finally:
            connection.close()
        return isinstance(answer, dict) and answer.get("health") == "true"

    def wait_healthy(self, timeout: float = 180.0, *, hosts: Sequence[Host] | None = None) -> None:
        """Wait until those members (default: all) are. Raises AssertionError with what etcd said last."""
        deadline = time.monotonic() + timeout
        for host in self.hosts if hosts is None else hosts:
            while not self.healthy(host):
                assert time.monotonic() < deadline, f"etcd on {host.name} is not healthy:\n{etcd_log(host)}"
                time.sleep(_POLL_SECONDS)


def client_url(host: Host) -> str:
    """Where clients reach that host's member."""
    return f"https://{host.address}:2379"


def peer_url(host: Host) -> str:
    """Where the other members reach it."""
    return f"https://{host.address}:2380"


def initial_cluster(hosts: Sequence[Host], names: Sequence[str]) -> str:
    """The value of ``--initial-cluster`` for members of these names."""
    return ",".join(f"{name}={peer_url(host)}" for name, host in zip(names, hosts, strict=True))


def etcd_log(host: Host, lines: int = 15) -> str:
    """The last lines etcd printed on that host, however it runs there."""
    journal = host.run("journalctl", "--unit=etcd", f"--lines={lines}", "--output=cat", check=False).stdout
    pod = host.run("tail", f"--lines={lines}", "/var/log/pods/kube-system_etcd.log", check=False).stdout
    return journal + pod


def deploy_etcd(
    hosts: Sequence[Host],
    pki: HostPki,
    programs: EtcdPrograms,
    *,
    data_dir: str = "/var/lib/etcd",
    wal_dir: str | None = None,
    token: str = "etcdguard-hosts",
    user: str = ETCD_USER,
    extra_args: Sequence[str] = (),
    names: Sequence[str] | None = None,
    start: bool = True,
) -> HostCluster:
    """A cluster of one systemd unit ``etcd.service`` a host, enabled, over mutual TLS; waits until healthy.

    Its members are called ``names``, else like their hosts. The folder that ``wal_dir`` is in becomes etcd's.
    With ``start=False`` everything is in place, as on a rebuilt machine, but nothing runs or is enabled.
    """
    cluster = _cluster(hosts, pki, programs, data_dir, wal_dir)
    names = names or [host.name for host in hosts]
    for host, name in zip(hosts, names, strict=True):
        _install_programs(host, programs)
        pki.install(host, SYSTEMD_TLS, user)
        _make_folder(host, data_dir, user)
        if wal_dir:
            # etcd makes it itself, under another name first: it is the folder above that must be etcd's.
            _make_folder(host, str(Path(wal_dir).parent), user)
        command = [
            "/usr/local/bin/etcd",
            *_flags(name, host, initial_cluster(hosts, names), data_dir, wal_dir, token, SYSTEMD_TLS),
            *extra_args,
        ]
        host.write("/etc/systemd/system/etcd.service", _UNIT.format(user=user, command=" ".join(command)))
        host.systemctl("daemon-reload")
    if start:
        for host in hosts:
            host.systemctl("enable", "--quiet", "etcd.service")
            # No member is ready before a quorum is, so none may be waited for here.
            host.systemctl("start", "--no-block", "etcd.service")
        cluster.wait_healthy()
    return cluster


def deploy_static_pods(
    hosts: Sequence[Host],
    pki: HostPki,
    programs: EtcdPrograms,
    *,
    data_dir: str = "/var/lib/etcd",
    token: str = "etcd-cluster",
    extra_args: Sequence[str] = (),
    start: bool = True,
) -> HostCluster:
    """A cluster as kubeadm lays it out: etcd and a control plane as static pods, all run by root.

    The kubelet and the control plane are stand-ins. With ``start=False`` the manifests are not there yet and
    the kubelet is off.
    """
    cluster = _cluster(hosts, pki, programs, data_dir, None)
    stand_in = (Path(__file__).parent / "control_plane_stand_in.py").read_bytes()
    everyone = initial_cluster(hosts, [host.name for host in hosts])
    for host in hosts:
        _install_programs(host, programs)
        pki.install(host, STATIC_POD_TLS, "root")
        _make_folder(host, data_dir, "root")
        for name in CONTROL_PLANE:
            host.write(f"/usr/local/bin/{name}", stand_in, mode=0o755)
        install_kubelet(host)
    if start:
        for host in hosts:
            flags = _flags(host.name, host, everyone, data_dir, None, token, STATIC_POD_TLS)
            etcd = ["etcd", *flags, *extra_args]
            host.write(f"{MANIFESTS}/etcd.yaml", pod_manifest("etcd", etcd, data_dir), mode=0o600)
            for name, port in CONTROL_PLANE.items():
                manifest = pod_manifest(name, _control_plane_command(name, port))
                host.write(f"{MANIFESTS}/{name}.yaml", manifest, mode=0o600)
            host.systemctl("enable", "--quiet", "--now", "kubelet.service")
        cluster.wait_healthy()
    return cluster


def install_kubelet(host: Host) -> None:
    """Put the kubelet's stand-in there as ``kubelet.service``, neither enabled nor started."""
    stand_in = Path(__file__).parent / "kubelet_stand_in.py"
    host.write("/usr/local/bin/kubelet", stand_in.read_bytes(), mode=0o755)
    host.write("/etc/systemd/system/kubelet.service", _KUBELET_UNIT)
    host.systemctl("daemon-reload")


def pod_manifest(name: str, command: Sequence[str], data_dir: str | None = None, *, grace: int = 30) -> str:
    """The parts of a kubeadm manifest that matter on the host, YAML; ``grace`` in seconds."""
    folders = {"etcd-data": data_dir, "etcd-certs": str(_KUBEADM_PKI)} if data_dir else {}
    container: dict[str, Any] = {
        "command": list(command),
        "image": f"registry.k8s.io/{name}",
        "name": name,
        "volumeMounts": [{"mountPath": path, "name": volume} for volume, path in folders.items()],
    }
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "labels": {"component": name, "tier": "control-plane"},
            "name": name,
            "namespace": "kube-system",
        },
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "terminationGracePeriodSeconds": grace,
            "volumes": [
                {"hostPath": {"path": path, "type": "DirectoryOrCreate"}, "name": volume}
                for volume, path in folders.items()
            ],
        },
    }
    return yaml.safe_dump(pod, sort_keys=True)


def remove_etcd(hosts: Sequence[Host], *, folders: Sequence[str] = ("/var/lib/etcd*",)) -> None:
    """Stop what deploy_* started and remove it, data too, for the next test; ``folders`` are patterns."""
    for host in hosts:
        host.systemctl("unmask", "--runtime", *_SERVICES)
        host.systemctl("stop", "--no-block", *_SERVICES, check=False)  # one of the two is unknown there
        for name in _PROCESSES:
            host.kill_processes(name)
        for service in _SERVICES:
            host.systemctl("disable", "--quiet", "--now", service, check=False)
        host.run("sh", "-c", _EMPTY.format(patterns=" ".join([*_FOLDERS, *folders])))
        host.run("rm", "-f", *(f"/etc/systemd/system/{service}" for service in _SERVICES))
        host.systemctl("daemon-reload")
        host.systemctl("reset-failed")


def _cluster(
    hosts: Sequence[Host], pki: HostPki, programs: EtcdPrograms, data_dir: str, wal_dir: str | None
) -> HostCluster:
    server = pki.server(hosts[0])
    tls = TlsFiles(
        ca=pki.ca, cert=server.cert, key=server.key, client_cert=pki.client.cert, client_key=pki.client.key
    )
    return HostCluster(tuple(hosts), programs, tls, data_dir, wal_dir)


def _install_programs(host: Host, programs: EtcdPrograms) -> None:
    for tool in filter(None, (programs.etcd, programs.etcdctl, programs.etcdutl)):
        host.path(f"/usr/local/bin/{tool.kind}").unlink(missing_ok=True)
        host.copy_in(tool.path, f"/usr/local/bin/{tool.kind}")


def _make_folder(host: Host, folder: str, owner: str) -> None:
    host.run("mkdir", "-p", folder)
    host.run("chown", f"{owner}:{owner}", folder)
    host.run("chmod", "700", folder)


def _flags(
    name: str,
    host: Host,
    everyone: str,
    data_dir: str,
    wal_dir: str | None,
    token: str,
    files: TlsFiles,
) -> list[str]:
    return [
        f"--name={name}",
        f"--data-dir={data_dir}",
        *([f"--wal-dir={wal_dir}"] if wal_dir else []),
        f"--listen-client-urls={client_url(host)},https://127.0.0.1:2379",
        f"--advertise-client-urls={client_url(host)}",
        f"--listen-peer-urls={peer_url(host)}",
        f"--initial-advertise-peer-urls={peer_url(host)}",
        f"--initial-cluster={everyone}",
        "--initial-cluster-state=new",
        f"--initial-cluster-token={token}",
        *files.flags(),
    ]


def _control_plane_command(name: str, port: int) -> list[str]:
    command = [name, f"--secure-port={port}"]
    if name == "kube-apiserver":
        command += [
            "--etcd-servers=https://127.0.0.1:2379",
            f"--etcd-cafile={STATIC_POD_TLS.ca}",
            f"--etcd-certfile={STATIC_POD_TLS.client_cert}",
            f"--etcd-keyfile={STATIC_POD_TLS.client_key}",
        ]
    return command
