"""How a publish can fail. In both cases the former table stays in force."""

from contracts.errors import DeadlineExceeded, Internal


class PublishRefused(Internal):
    """Envoy refused a configuration. Our snapshots are checked before they leave, so this is a fault of ours; the
    sentence carries Envoy's own words."""

    code = "publish_refused"


class PublishTimedOut(DeadlineExceeded):
    """Envoy did not acknowledge in time, is not connected, or a version that was to take traffic never became
    healthy. Trying again later may help."""

    code = "publish_timed_out"
