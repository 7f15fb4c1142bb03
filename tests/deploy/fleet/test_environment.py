"""A child gets what it needs and none of the control plane's secrets."""

from deploy.fleet.environment import child_environment


def test_secrets_of_the_control_plane_stay_with_it():
    parent = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "s",
        "TEAL_STATE_URL": "postgresql://u:p@h/d",
        "MLFLOW_TRACKING_TOKEN": "t",
        "LD_PRELOAD": "/x.so",
    }
    env = child_environment(parent, fleet="f", process="p")
    assert env["PATH"] == "/bin"
    assert not {"AWS_SECRET_ACCESS_KEY", "TEAL_STATE_URL", "MLFLOW_TRACKING_TOKEN", "LD_PRELOAD"} & env.keys()


def test_an_operator_can_tune_the_numerical_libraries():
    env = child_environment({"OMP_NUM_THREADS": "3", "TF_CPP_MIN_LOG_LEVEL": "0"}, fleet="f", process="p")
    assert (env["OMP_NUM_THREADS"], env["TF_CPP_MIN_LOG_LEVEL"]) == ("3", "0")


def test_a_bound_on_threads_reaches_the_numerical_libraries():
    env = child_environment({"OMP_NUM_THREADS": "3"}, fleet="f", process="p", threads=2)
    assert (env["OMP_NUM_THREADS"], env["TF_NUM_INTRAOP_THREADS"]) == ("2", "2")


def test_the_marks_are_its_own_and_not_its_parents():
    env = child_environment({"TEAL_FLEET": "other", "TEAL_PROCESS": "other"}, fleet="f", process="p")
    assert (env["TEAL_FLEET"], env["TEAL_PROCESS"]) == ("f", "p")
