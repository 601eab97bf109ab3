"""The daemon as a process: signals, reload, systemd, and an end within a bound."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType

from etcdguard import __version__
from etcdguard.app import App
from etcdguard.app_look import history_file, looker
from etcdguard.config import Config, Loaded
from etcdguard.config.settings import CONFIG_COPY
from etcdguard.daemon.election import Alone, Election, EtcdElection
from etcdguard.daemon.engine import Daemon
from etcdguard.daemon.jobs import CLUSTER_JOBS, Job, jobs_of
from etcdguard.daemon.notify import Notifier
from etcdguard.daemon.observe.observer import Observer
from etcdguard.daemon.observe.sampler import Sampler
from etcdguard.daemon.observe.survey import Survey
from etcdguard.daemon.observe.webhooks import Messenger, Webhook
from etcdguard.daemon.runner import ChildRunner
from etcdguard.errors import ConfigError, EtcdGuardError
from etcdguard.log import get_logger

__all__ = ["Service"]

_log = get_logger()

_KILL_AFTER = 15.0
"""Seconds that jobs get to end cleanly when the daemon ends."""
_GIVE_UP_AFTER = 20.0


class Service:
    """``run`` until SIGTERM or SIGINT. SIGHUP reads the configuration anew.

    ``load`` reads it; ``has_command`` says whether this etcdguard has a command; ``flags`` are global flags
    that every job is started with.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        environment: Mapping[str, str],
        has_command: Callable[[Sequence[str]], bool],
        flags: Sequence[str],
    ) -> None:
        self._load = load
        self._environment = dict(environment)
        self._has_command = has_command
        self._flags = tuple(flags)
        self._notifier = Notifier(environment)
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._hang_up = False
        self._terminate = False
        self._copy: int | None = None
        self._sampler: Sampler | None = None
        self.daemon: Daemon | None = None
        """Its ``state`` is what there is to know; None before ``run``."""

    def run(self) -> None:
        """Raises ConfigError for a configuration that cannot be used from the start."""
        loaded = self._load()
        jobs = self._jobs(loaded)
        app = App(loaded)
        runner, election = self._runner(loaded), self._election(app)
        self.daemon = daemon = Daemon(
            jobs,
            runner,
            election,
            app.clock,
            node=app.node,
            cluster=loaded.config.cluster.name,
            version=__version__,
            wanted=_wanted(loaded),
        )
        observer = self._observer(loaded, app, runner, daemon)
        self._sample(app)
        before = self._take_signals()
        _log.info("daemon.started", cluster=loaded.config.cluster.name, jobs=[job.name for job in jobs])
        self._notifier.ready(f"{len(jobs)} jobs")
        try:
            self._loop(daemon, loaded, election, observer)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        _log.info("daemon.stopped")

    def _loop(self, daemon: Daemon, loaded: Loaded, election: Election, observer: Observer) -> None:
        alive_at = 0.0
        while not self._terminate:
            pause = daemon.tick()
            observer.tick()
            if self._notifier.watchdog_seconds and time.monotonic() >= alive_at:
                self._notifier.alive()
                alive_at = time.monotonic() + self._notifier.watchdog_seconds / 3
            self._wait(pause)
            if self._hang_up:
                self._hang_up = False
                loaded, election, observer = self._reload(daemon, loaded, election, observer)
        self._end(daemon, election)
        observer.close()
        if self._sampler is not None:
            self._sampler.close()

    def _reload(
        self, daemon: Daemon, loaded: Loaded, election: Election, observer: Observer
    ) -> tuple[Loaded, Election, Observer]:
        self._notifier.reloading()
        try:
            new = self._load()
            jobs = self._jobs(new)
            app = App(new)
            if new.config.cluster.name != loaded.config.cluster.name:
                raise ConfigError(
                    "cluster.name cannot change while the daemon runs", hint="restart it for another cluster"
                )
            same = _elected_by(new.config) == _elected_by(loaded.config)
            successor = election if same else self._election(app)
            runner = self._runner(new)
        except EtcdGuardError as error:
            daemon.keep(error.message)
            _log.error("daemon.reload_failed", error=error.message, hint=error.hint)
            self._notifier.ready("the new configuration cannot be used, the old one stays")
            return loaded, election, observer
        if not same:
            election.close()
        daemon.reload(jobs, runner, successor, wanted=_wanted(new))
        observer.close()
        observer = self._observer(new, app, runner, daemon)
        self._sample(app)
        _log.info("daemon.reloaded", jobs=[job.name for job in jobs])
        self._notifier.ready(f"{len(jobs)} jobs")
        return new, successor, observer

    def _end(self, daemon: Daemon, election: Election) -> None:
        """Ask the jobs to end, then end them, then give the lock up: in under a minute, even without etcd."""
        _log.info("daemon.stopping")
        self._notifier.stopping()
        began = time.monotonic()
        daemon.stop()
        while not daemon.stopped and time.monotonic() < began + _GIVE_UP_AFTER:
            if time.monotonic() > began + _KILL_AFTER:
                daemon.kill()
            self._wait(daemon.tick())
        election.close()

    # -- signals -----------------------------------------------------------------------------------------

    def _take_signals(self) -> dict[int, Callable[[int, FrameType | None], object] | int | None]:
        def terminate(number: int, frame: FrameType | None) -> None:
            self._terminate = True
            self._poke()

        def hang_up(number: int, frame: FrameType | None) -> None:
            self._hang_up = True
            self._poke()

        wanted = {signal.SIGTERM: terminate, signal.SIGINT: terminate, signal.SIGHUP: hang_up}
        return {number: signal.signal(number, handler) for number, handler in wanted.items()}

    def _poke(self) -> None:
        with suppress(BlockingIOError):  # full: it will wake as it is
            os.write(self._waker, b"!")

    def _wait(self, seconds: float) -> None:
        """Sleep, but not through a signal."""
        ready, _, _ = select.select([self._wake], [], [], seconds)
        if ready:
            os.read(self._wake, 4096)

    # -- from a configuration ----------------------------------------------------------------------------

    def _jobs(self, loaded: Loaded) -> tuple[Job, ...]:
        jobs = jobs_of(loaded.config, self._has_command)
        if loaded.config.backup.schedule is not None:
            loaded.repositories()  # ConfigError when there is none
        return jobs

    def _election(self, app: App) -> Election:
        if not app.config.daemon.election:
            return Alone()
        return EtcdElection(lambda: app.lock("daemon"), app.slot_marks(), CLUSTER_JOBS)

    def _observer(self, loaded: Loaded, app: App, runner: ChildRunner, daemon: Daemon) -> Observer:
        config = loaded.config
        names = [repository.name for repository in config.repositories]
        webhooks = [Webhook(one.url, one.format) for one in config.notify.webhooks]
        observer = Observer(
            lambda: daemon.state,
            Survey(names, runner, app.clock),
            Messenger(webhooks, config.cluster.name, app.node),
            app.clock,
            config.backup.schedule,
        )
        if config.daemon.listen is not None:
            host, _, port = config.daemon.listen.rpartition(":")
            observer.listen(host.strip("[]"), int(port))
        return observer

    def _sample(self, app: App) -> None:
        """Look at the cluster that this configuration names from now on."""
        if self._sampler is not None:
            self._sampler.close()
        self._sampler = Sampler(lambda: looker(app), history_file(app))

    def _runner(self, loaded: Loaded) -> ChildRunner:
        """Jobs get the text we run with, whatever becomes of the file."""
        text = loaded.text.encode()
        copy = os.memfd_create("etcdguard-config", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(copy), "wb") as out:
            out.write(text)
        earlier, self._copy = self._copy, copy
        if earlier is not None:
            os.close(earlier)
        environment = self._environment | {CONFIG_COPY: str(copy)}
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            environment.pop(name, None)
        return ChildRunner(["--config", str(loaded.path), *self._flags], environment, inherited=[copy])


def _elected_by(config: Config) -> object:
    """What an election depends on."""
    return config.cluster, config.daemon.election


def _wanted(loaded: Loaded) -> dict[str, Callable[[], bool]]:
    return {"ship": lambda: _spool_waits(loaded.config)}


def _spool_waits(config: Config) -> bool:
    """Whether anything may wait in the spool: an entry's folder, whole or not."""
    try:
        return any(path.is_dir() for path in config.backup.spool_dir.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.error("spool.unreadable", path=str(config.backup.spool_dir), error=error.strerror)
        return True  # the command says it in full
