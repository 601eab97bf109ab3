"""The table: every bad input with its command, exit code, and what the two lines say."""

from __future__ import annotations

import shutil

from tests.e2e.bad_input import (
    READER,
    Row,
    bucket,
    change_settings,
    change_stored,
    connect_to,
    empty_repository,
    environment,
    expired,
    flipped,
    guarded,
    in_turn,
    mutual_tls,
    no_backups,
    other_identity,
    plain,
    raw_config,
    replaced,
    spool_is_a_file,
    versity,
    with_client,
    write_file,
)

__all__ = ["RESTORE", "ROWS"]

_NEWER = change_stored("manifest.json", replaced(b'"etcdguard/1"', b'"etcdguard/2"'))
_ALTERED = change_stored("manifest.json", replaced(b'"level": 1', b'"level": 2'))
RESTORE = "restore latest --all --yes --data-dir alone={here}/data"
_MANIFEST, _SIGNATURE, _OBJECT = "manifest.json", "manifest.json.sig", "snapshot.db.zst.age"

# -- the rows --------------------------------------------------------------------------------------------

_ETCD = (
    Row("nothing listens", "backup --endpoints http://127.0.0.1:1", 2, "connection refused", "etcd runs"),
    Row(
        "not etcd",
        "backup",
        2,
        "http://127.0.0.1",
        "",
        connect_to(plain, endpoints=lambda world: [world.seaweedfs.endpoint_url]),
    ),
    Row("malformed endpoint", "backup --endpoints etcd.internal", 64, "endpoint", "https://"),
    Row(
        "http where TLS is spoken",
        "backup",
        2,
        "does not speak plain HTTP/2",
        "https://",
        connect_to(mutual_tls, endpoints=lambda w: [w.mutual_tls.client_urls[0].replace("https", "http")]),
    ),
    Row(
        "https where it is not",
        "backup",
        2,
        "does not answer in TLS",
        "http://",
        connect_to(plain, endpoints=lambda w: [w.plain.client_urls[0].replace("http", "https")]),
    ),
    Row(
        "expired server certificate",
        "backup",
        2,
        "server's certificate has expired",
        "renew",
        connect_to(expired),
    ),
    Row(
        "expired client certificate",
        "backup",
        2,
        "rejects the client certificate",
        "--cert",
        connect_to(mutual_tls, **with_client(lambda pki: pki.expired_client)),
    ),
    Row(
        "client of another authority",
        "backup",
        2,
        "rejects the client certificate",
        "--cert",
        connect_to(mutual_tls, **with_client(lambda pki: pki.stranger)),
    ),
    Row(
        "no client certificate",
        "backup",
        2,
        "client certificate",
        "--cert",
        connect_to(mutual_tls, cert=None, key=None),
    ),
    Row(
        "CA mismatch",
        "backup",
        2,
        "certificate is not trusted",
        "--cacert",
        connect_to(mutual_tls, cacert=lambda world: str(world.pki.other_ca)),
    ),
    Row("missing CA file", "backup", 64, "none.pem", "--cacert", connect_to(mutual_tls, cacert="none.pem")),
    Row(
        "wrong server name",
        "backup --server-name etcd.internal",
        2,
        "another name",
        "--server-name",
        connect_to(mutual_tls),
    ),
    Row(
        "wrong password",
        "backup",
        2,
        "refused the credentials",
        "user name and password",
        in_turn(connect_to(guarded, user="root"), environment(ETCDGUARD_PASSWORD="wrong")),
    ),
    Row(
        "user without root role",
        "backup",
        2,
        "denied permission",
        "root role",
        in_turn(connect_to(guarded, user="reader"), environment(ETCDGUARD_PASSWORD=READER.password)),
    ),
    Row("no user", "backup", 2, "requires authentication", "--user", connect_to(guarded)),
    Row("no password", "backup", 64, "without its password", "both", connect_to(guarded, user="root")),
    Row(
        "missing password file",
        "backup",
        12,
        "password file",
        "path",
        connect_to(guarded, user="root", password_file="none"),
    ),
    Row(
        "endpoint of no member",
        "backup --endpoint http://127.0.0.1:1",
        64,
        "not among",
        "one of",
        connect_to(plain),
    ),
)

_CONFIG = (
    Row(
        "no configuration",
        "list",
        64,
        "no such configuration",
        "init",
        lambda _, here: here.config_path.unlink(),
    ),
    Row("bad YAML", "list", 64, "config.yaml", "", raw_config("cluster: {name: prod\nmembers: [")),
    Row(
        "unknown key",
        "list",
        64,
        "endpoint_urls",
        "endpoint",
        change_settings(lambda settings: settings["cluster"].update(endpoint_urls=["x"])),
    ),
    Row(
        "no encryption section", "list", 64, "encryption", "", change_settings(lambda s: s.pop("encryption"))
    ),
    Row(
        "secret in the file",
        "list",
        64,
        "password",
        "password_file",
        change_settings(lambda settings: settings["cluster"].update(password="hunter2")),
    ),
    Row(
        "unknown variable",
        "list",
        64,
        "ETCDGUARD_ENDPOINT",
        "ENDPOINTS",
        environment(ETCDGUARD_ENDPOINT="x"),
    ),
    Row("unknown command", "bakcup", 64, "bakcup", "backup"),
    Row("unknown flag", "backup --emergancy", 64, "--emergancy", "--emergency"),
    Row("missing argument", "show", 64, "ID|latest", "--help"),
    Row("init again", "init", 15, "already there", "--config"),
    Row(
        "no repository",
        "list",
        64,
        "repository",
        "repositories",
        change_settings(lambda s: s.update(repositories=[])),
    ),
    Row("repository of another name", "list --repository main2", 64, "main2", "main"),
)

_STORES = (
    Row("missing bucket", "list", 10, "bucket does not exist", "bucket", bucket(bucket="no-such-bucket")),
    Row("wrong region", "list", 10, "another region", "us-east-1", bucket(versity, region="eu-north-1")),
    Row(
        "wrong secret",
        "list",
        10,
        "SignatureDoesNotMatch",
        "AWS_SECRET_ACCESS_KEY",
        in_turn(bucket(), environment(AWS_SECRET_ACCESS_KEY="wrong")),
    ),
    Row(
        "unknown access key",
        "list",
        10,
        "InvalidAccessKeyId",
        "AWS_ACCESS_KEY_ID",
        in_turn(bucket(), environment(AWS_ACCESS_KEY_ID="nobody")),
    ),
    Row("no credentials", "list", 10, "credentials", "environment, profile", bucket(variables={})),
    Row(
        "unknown profile",
        "list",
        10,
        "nobody",
        "profile",
        bucket(variables={"AWS_PROFILE": "nobody"}),
    ),
    Row(
        "no repository took it",
        "backup",
        10,
        "bucket does not exist",
        "spool",
        in_turn(connect_to(plain), bucket(bucket="no-such-bucket")),
        without=("spool",),
    ),
    Row(
        "repository not mounted",
        "list",
        10,
        "repository main",
        "",
        lambda _, here: shutil.rmtree(here.repository),
    ),
    Row(
        "an empty directory is no repository",
        "list",
        10,
        "repository main",
        "",
        empty_repository,
    ),
)

_KEYS = (
    *(
        Row(
            f"wrong identity: {command}",
            f"{command} --identity other.txt",
            12,
            "none of the 1 identities",
            "identity",
            other_identity,
        )
        for command in ("verify", "download latest -o snapshot.db", RESTORE)
    ),
    *(
        Row(f"missing identity: {command}", f"{command} --identity none.txt", 12, "none.txt", "path")
        for command in ("verify", "download latest -o snapshot.db", RESTORE)
    ),
    Row(
        "no identity at all",
        "verify",
        12,
        "identity",
        "--identity",
        change_settings(lambda settings: settings["encryption"].pop("identity_file")),
    ),
    Row(
        "not an identity",
        "verify --identity notes.txt",
        64,
        "notes.txt line 1",
        "AGE-SECRET-KEY-1",
        write_file("notes.txt", "the identity is in the safe\n"),
    ),
    Row(
        "missing signing key",
        "backup",
        12,
        "signing key",
        "path",
        in_turn(connect_to(plain), lambda _, here: (here.folder / "signing.key.pem").unlink()),
    ),
    Row(
        "missing public key of a signer",
        "list",
        12,
        "signing.pub.pem",
        "path",
        lambda _, here: here.public_key.unlink(),
    ),
)

_BACKUPS = (
    *(
        Row(
            f"corrupted {name}: verify",
            "verify -o json",
            13,
            "failed verification",
            "new backup",
            change_stored(name, flipped),
            ("events",),
        )
        for name in (_OBJECT, _SIGNATURE)
    ),
    Row("altered manifest: verify", "verify", 13, "failed verification", "new backup", _ALTERED, ("events",)),
    Row(
        "altered manifest: restore", RESTORE, 13, "not signed by anyone trusted", "trusted_signers", _ALTERED
    ),
    Row(
        "no signature: verify",
        "verify",
        13,
        "failed verification",
        "new backup",
        change_stored(_SIGNATURE, lambda _: None),
        ("events",),
    ),
    Row(
        "no signature: restore",
        RESTORE,
        15,
        "not signed",
        "trusted_signers",
        change_stored(_SIGNATURE, lambda _: None),
    ),
    Row(
        "cut manifest: show",
        "show latest",
        13,
        "not valid JSON",
        "another backup",
        change_stored(_MANIFEST, lambda raw: raw[:200]),
    ),
    Row(
        "cut manifest: verify",
        "verify --all",
        13,
        "failed verification",
        "new backup",
        change_stored(_MANIFEST, lambda raw: raw[:200]),
        ("events",),
    ),
    Row(
        "corrupted object: download",
        "download latest -o snapshot.db",
        13,
        "",
        "another backup",
        change_stored(_OBJECT, flipped),
    ),
    Row("corrupted object: restore", RESTORE, 13, "", "another backup", change_stored(_OBJECT, flipped)),
    *(
        Row(
            f"truncated object: {command}",
            command,
            13,
            "",
            "",
            change_stored(_OBJECT, lambda raw: raw[:-1]),
            ("events",),
        )
        for command in (
            "verify",
            "verify --level manifest",
            "show latest",
            "download latest -o snapshot.db",
            RESTORE,
        )
    ),
    Row("missing object", "verify", 13, "", "", change_stored(_OBJECT, lambda _: None), ("events",)),
    *(
        Row(f"newer format: {command}", command, 10, "etcdguard/2", "newer etcdguard", _NEWER)
        for command in ("show latest", "verify", "download latest -o snapshot.db", RESTORE)
    ),
    *(
        Row(f"no backups: {command}", command, 10, "no backup", "check repository", no_backups)
        for command in ("show latest", "verify", "download latest -o snapshot.db", RESTORE)
    ),
    *(
        Row(f"not an id: {command}", command, 64, "'../../etc' is not a backup id", "list")
        for command in ("show ../../etc", "verify ../../etc", "download ../../etc -o snapshot.db")
    ),
    Row("unknown id", "show 20261121T020000Z-r00000000000000005033-9f31c2aa", 10, "no backup", "list"),
)

_MACHINE = (
    Row(
        "download target exists",
        "download latest -o old.db",
        15,
        "old.db exists",
        "--force",
        write_file("old.db", "old"),
    ),
    Row("download into nowhere", "download latest -o none/snapshot.db", 1, "none/snapshot.db", "directory"),
    Row(
        "the spool is a file",
        "backup",
        1,
        "spool",
        "backup.spool_dir",
        in_turn(connect_to(plain), spool_is_a_file),
    ),
    Row("restore with a tool that is not there", RESTORE + " --etcdutl none", 64, "none", "path"),
    Row("restore --map of a URL", RESTORE + " --map 127.0.0.1=http://h", 64, "not OLD=NEW", "without scheme"),
    Row("restore --map of no host", RESTORE + " --map=10.9.9.9=10.9.9.8", 64, "no member is at", "127.0.0.1"),
    Row("restore, but which member", "restore latest --yes", 64, "which members", "--member"),
)

ROWS = (*_ETCD, *_CONFIG, *_STORES, *_KEYS, *_BACKUPS, *_MACHINE)
