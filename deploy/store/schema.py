"""The tables, and which release of them this code reads. Only shapes; what they mean is in records.py and store.py."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA = 2  # raise it together with a step in upgrades.py that brings an older database up

metadata = MetaData()

# One row: the release of the schema this database has.
schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

# `next_version` only grows: the number of a deleted version is never given to another one.
models = Table(
    "models",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next_version", BigInteger, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("plan", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("registered_at", Float, nullable=False),
    Column("seconds_per_row", Float, nullable=True),
    Column("lineage", Text, nullable=False),
    ForeignKeyConstraint(["model"], ["models.name"]),
)

# One row per model; `body` is the deployment as JSON, `revision` is what compare-and-set compares, `stretch` says what
# was observed since its latest event (audit/observations.py).
deployments = Table(
    "deployments",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("stretch", Text, nullable=True),
    ForeignKeyConstraint(["model"], ["models.name"]),
)

# `before` and `after` are deployments as JSON; `evidence` says what an event was decided from. The hashes are a chain
# (audit/chain.py), and nothing may be written without its link.
events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("model", String(64), nullable=False, index=True),
    Column("version", BigInteger, nullable=True),
    Column("reason", Text, nullable=False),
    Column("before", Text, nullable=True),
    Column("after", Text, nullable=True),
    Column("evidence", Text, nullable=True),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    sqlite_autoincrement=True,  # a number is never used twice, whatever is deleted
)

# One row: the end of the chain. Whoever appends holds it, and a history that ends earlier than it shows.
chain = Table(
    "chain",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

# What automatic decisions were made from; `since` is the event of the model that came before.
observations = Table(
    "observations",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("since", BigInteger, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
)

# Stretches of observations that an event has ended, for as long as their observations are kept.
stretches = Table(
    "stretches",
    metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String(64), nullable=False, index=True),
    Column("rollout", BigInteger, nullable=True),
)

# One row: which control plane decides. `until` is wall seconds; `epoch` grows whenever another one takes over.
lease = Table(
    "lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
)

# Commands that came with a key, and what came of them first; once.py.
commands = Table(
    "commands",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("asked", String(64), nullable=False),
    Column("at", Float, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("version", BigInteger, nullable=True),
    Column("after", Text, nullable=False),
    ForeignKeyConstraint(["model"], ["models.name"]),
)

# `owner` is the home whose control plane started the process: several may share this database, and none may forget or
# adopt what another one started. Empty in rows from before there was an owner.
processes = Table(
    "processes",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("color", String(8), nullable=False),
    Column("replica", Integer, nullable=False),
    Column("pid", Integer, nullable=True),
    Column("start_ticks", BigInteger, nullable=True),
    Column("socket", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("started_at", Float, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("version", BigInteger, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)
