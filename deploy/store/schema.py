"""The tables, and which release of them this code reads. Only shapes; what they mean is in records.py and store.py."""

from sqlalchemy import BigInteger, Column, Float, ForeignKeyConstraint, Integer, MetaData, String, Table, Text

SCHEMA = 1  # raise it together with a step in database.py that brings an older database up

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

# One row per model; `body` is the deployment as JSON, `revision` is what compare-and-set compares.
deployments = Table(
    "deployments",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    ForeignKeyConstraint(["model"], ["models.name"]),
)

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
    sqlite_autoincrement=True,  # a number is never used twice, whatever is deleted
)

processes = Table(
    "processes",
    metadata,
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
