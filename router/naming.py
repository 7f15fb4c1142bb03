"""Names of Envoy's clusters, and how Envoy reads model, version and color back out of them for its statistics.

A cluster's name is its whole identity: what it is for, which version, which package, and the settings it was made
with. So a cluster never changes: other settings make another cluster, which is warmed before anything moves to it.
"""

from router.table import Backend

# What a cluster is for. Each has its own statistics and limits, so that what the split sends can be told from the rest.
PREDICT = "predict"  # requests of the split: evidence
PINNED = "pinned"  # requests that name a version, and questions about the model, while a split divides the others
MIRROR = "mirror"  # copies of requests, for nobody
KINDS = (PREDICT, PINNED, MIRROR)
SEPARATOR = "|"  # no model name holds one, and Envoy leaves it alone in names of statistics

DIGEST_LETTERS = 12

# The clusters that are part of Envoy's start (router/bootstrap.py), and not of a table.
CONTROL_PLANE = "control_plane"  # ADS
REFLECTION = "reflection"  # the same socket, for callers
# Envoy itself, twice round: where a gRPC call becomes HTTP and its answer gRPC, and where that HTTP is answered.
BRIDGE = "bridge"
ANSWERS = "answers"
STATIC = frozenset({CONTROL_PLANE, REFLECTION, BRIDGE, ANSWERS})

# What each part of a name looks like in a statistic's name, by the label it becomes.
PARTS = {"kind": "[a-z]+", "package": "[^|]+", "model": "[^|]+", "version": r"\d+", "color": "[a-z]+"}
LABELS = ("kind", "model", "version", "color")
# With use_all_default_tags off, the wanted ones of Envoy's own tags are named.
DEFAULT_TAGS = (
    "envoy.cluster_name",
    "envoy.response_code",
    "envoy.response_code_class",
    "envoy.http_conn_manager_prefix",
    "envoy.listener_address",
    "envoy.worker_id",
)


def cluster_name(kind: str, model: str, backend: Backend, settings: str) -> str:
    """`predict|0a1b2c3d4e5f-9f3a|digits|2|green`: kind, package digest and settings digest, model, version, color."""
    parts = (kind, f"{package_of(backend)}-{settings}", model, str(backend.version), backend.color.value)
    return SEPARATOR.join(parts)


def package_of(backend: Backend) -> str:
    """What of a package's digest is in names."""
    return backend.digest.removeprefix("sha256:")[:DIGEST_LETTERS]


def place_of(name: str) -> tuple[str, str]:
    """Kind and color of a cluster, which are its own among the clusters of its model."""
    return kind_of(name), name.rsplit(SEPARATOR, 1)[1]


def kind_of(name: str) -> str:
    """What a cluster is for."""
    return name.split(SEPARATOR, 1)[0]


def version_of(name: str) -> str:
    """The version a cluster's name stands for, as an operator says it: "digits version 2 (green)"."""
    _, _, model, version, color = name.split(SEPARATOR)
    return f"{model} version {version} ({color})"


def stats_tags() -> list[dict[str, str]]:
    """Envoy's stats_tags: the whole name leaves the statistic's name and comes back as labels, so that
    `cluster.predict|…|digits.v2|2|green.upstream_rq_total` is `envoy_cluster_upstream_rq_total{model="digits.v2",…}`.

    In each pattern the outer group is what is cut out of the name (the same for all), the inner group the label's
    value. Envoy's own tag for cluster names ends at the first dot, which model names may hold; the package stands
    before the model so that this label, too, differs between any two clusters. Envoy runs every pattern over every
    statistic of every new cluster, which is most of what a new cluster costs: so there are no more than needed.
    """
    tags = []
    for label in LABELS:
        pattern = r"\|".join(f"({part})" if name == label else part for name, part in PARTS.items())
        tags.append({"tag_name": label, "regex": rf"^cluster\.({pattern}\.)"})
    tags += [{"tag_name": name} for name in DEFAULT_TAGS]
    return tags
