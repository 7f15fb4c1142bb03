"""Names of Envoy's clusters, and how Envoy reads model, version and color back out of them for its statistics.

A cluster's name is its whole identity: what it is for, which version, which package, and the settings it was made
with. So a cluster never changes: other settings make another cluster, which is warmed before anything moves to it.
"""

from router.table import Backend

PREDICT = "predict"
SEPARATOR = "|"  # no model name holds one, and Envoy leaves it alone in names of statistics

DIGEST_LETTERS = 12

# What each part of a name looks like in a statistic's name, by the label it becomes.
PARTS = {"kind": "[a-z]+", "model": r"[^|]+", "version": r"\d+", "color": "(?:blue|green)", "package": r"[^|.]+"}
# With use_all_default_tags off, the wanted ones of Envoy's own tags are named.
DEFAULT_TAGS = (
    "envoy.response_code",
    "envoy.response_code_class",
    "envoy.http_conn_manager_prefix",
    "envoy.listener_address",
    "envoy.worker_id",
)


def cluster_name(kind: str, model: str, backend: Backend, settings: str) -> str:
    """`predict|digits|2|green|0a1b2c3d4e5f-9f3a`: kind, model, version, color, package digest and settings digest."""
    package = backend.digest.removeprefix("sha256:")[:DIGEST_LETTERS]
    return SEPARATOR.join((kind, model, str(backend.version), backend.color.value, f"{package}-{settings}"))


def stats_tags() -> list[dict[str, str]]:
    """Envoy's stats_tags: the whole name leaves the statistic's name and comes back as labels, so that
    `cluster.predict|digits.v2|2|green|….upstream_rq_total` is `envoy_cluster_upstream_rq_total{model="digits.v2",…}`.

    In each pattern the outer group is what is cut out of the name (the same for all), the inner group the label's
    value. The default tag for cluster names ends at the first dot, which model names may hold; ours never match
    where the other clusters' do.
    """
    tags = []
    for label in PARTS:
        pattern = r"\|".join(f"({part})" if name == label else part for name, part in PARTS.items())
        tags.append({"tag_name": label, "regex": rf"^cluster\.({pattern}\.)"})
    tags.append({"tag_name": "envoy.cluster_name", "regex": r"^cluster\.(([^.|]+)\.)"})
    tags += [{"tag_name": name} for name in DEFAULT_TAGS]
    return tags
