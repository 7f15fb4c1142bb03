"""What Envoy should do, as a value: which versions are reachable where, and how each model's traffic is divided.

The control plane makes a RoutingTable from what is deployed and ready; everything else in this package turns it into
Envoy's configuration. It cannot be constructed inconsistent, so nothing further in checks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.errors import InvalidInput
from contracts.names import Color, check_model_name, check_version
from contracts.traffic import Mirror, TrafficSplit


@dataclass(frozen=True)
class Backend:
    """One deployed version of a model.

    `endpoints` are the sockets of its ready workers: absolute Unix socket paths, or "host:port". Empty means deployed
    but with nobody to answer: Envoy answers 503 with Retry-After at once.
    """

    version: int
    digest: str
    color: Color
    endpoints: tuple[str, ...]

    def __post_init__(self) -> None:
        check_version(self.version)


@dataclass(frozen=True)
class ModelRoutes:
    """One model: its one or two backends in different places, the split between the places, its labels
    (label → version, the reserved ones `live`, `candidate`, `blue`, `green` included where they apply), and to whom
    requests of the split are copied besides."""

    model: str
    backends: tuple[Backend, ...]
    split: TrafficSplit
    labels: Mapping[str, int] = field(default_factory=dict)
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        check_model_name(self.model)
        colors = [b.color for b in self.backends]
        versions = {b.version for b in self.backends}
        if not self.backends:
            raise InvalidInput(f"model {self.model}: a route needs at least one backend")
        if len(set(colors)) != len(colors):
            raise InvalidInput(f"model {self.model}: two backends in the same place: {', '.join(colors)}")
        if len(versions) != len(self.backends):
            raise InvalidInput(f"model {self.model}: the same version stands in both places")
        for color in Color:
            if self.split.share(color) > 0 and color not in colors:
                raise InvalidInput(f"model {self.model}: {color} has a share of traffic and no backend")
        if self.mirror is not None and (self.mirror.color not in colors or len(colors) == 1):
            raise InvalidInput(f"model {self.model}: a mirror to {self.mirror.color} needs a backend there and another")
        for label, version in self.labels.items():
            if version not in versions:
                raise InvalidInput(
                    f"model {self.model}: label {label!r} names version {version}, which is not deployed"
                )

    def backend(self, color: Color) -> Backend | None:
        return next((b for b in self.backends if b.color is color), None)


@dataclass(frozen=True)
class RoutingTable:
    """All models, sorted by name, each once."""

    models: tuple[ModelRoutes, ...] = ()

    def __post_init__(self) -> None:
        names = [m.model for m in self.models]
        if names != sorted(set(names)):
            raise InvalidInput("routing table: models must be sorted by name and each stand once")
