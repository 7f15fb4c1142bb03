"""`python tests/fakes/mlflow_server.py DATABASE ARTIFACTS`: MLflow's own server on a free port of this machine.

`mlflow server` needs packages that mlflow-skinny leaves out; the application it serves does not. Prints its address.
"""

import os
import sys
import warnings
from pathlib import Path

from werkzeug.serving import make_server

sys.path.insert(0, str(Path(__file__).parents[2]))
from serving.fetch.traces import mend

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    database, artifacts = (Path(word).absolute() for word in sys.argv[1:])
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{database}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    mend()
    from mlflow.server import app  # reads the environment

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
