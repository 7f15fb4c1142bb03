"""`python tests/fakes/mlflow_store.py URI MODEL`: what somebody who trained with MLflow leaves behind.

MODEL is a directory with an MLmodel file. Prints {"run", "logged_model"} as JSON. Registered afterwards: `digits` 1,
kept with its run, alias champion; `digits` 2, a logged model of MLflow 3; `forest` 1, of another flavor.
"""

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from serving.fetch.traces import mend

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def main(uri: str, model: str) -> None:
    warnings.simplefilter("ignore")
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    mend()
    from mlflow import MlflowClient  # noqa: PLC0415 - reads the environment
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("handwriting")
    run = client.create_run(
        experiment, run_name="first try", tags={"mlflow.source.git.commit": COMMIT, "team": "vision"}
    )
    run_id = run.info.run_id
    client.log_param(run_id, "layers", "2")
    client.log_metric(run_id, "accuracy", 0.97)
    client.log_metric(run_id, "loss", float("nan"))
    trained_on = Dataset("optical digits", "d19e57", "http", '{"url": "https://me:sesame@data.example/digits?token=x"}')
    client.log_inputs(run_id, [DatasetInput(trained_on, [InputTag("mlflow.data.context", "training")])])
    client.log_artifacts(run_id, model, "model")
    client.create_registered_model("digits")
    client.create_model_version("digits", f"{run.info.artifact_uri}/model", run_id)
    client.set_registered_model_alias("digits", "champion", "1")
    logged = client.create_logged_model(experiment, name="net", source_run_id=run_id)
    client.log_model_artifacts(logged.model_id, model)
    client.finalize_logged_model(logged.model_id, "READY")
    client.create_model_version("digits", f"models:/{logged.model_id}", run_id, model_id=logged.model_id)
    with tempfile.TemporaryDirectory() as aside:
        (Path(aside) / "MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl}, python_function: {}}\n")
        (Path(aside) / "model.pkl").write_bytes(b"never to be loaded")
        client.log_artifacts(run_id, aside, "forest")
    client.create_registered_model("forest")
    client.create_model_version("forest", f"{run.info.artifact_uri}/forest", run_id)
    print(json.dumps({"run": run_id, "logged_model": logged.model_id}))


if __name__ == "__main__":
    main(*sys.argv[1:])
