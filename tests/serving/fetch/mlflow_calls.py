"""`python -m tests.serving.fetch.mlflow_calls URI OUTPUT SOURCE…`: fetches each source, one JSON line each.

MLflow takes seconds to import and warns about itself, so all calls of the tests to one store share one process.
"""

import json
import sys
import warnings
from pathlib import Path

from contracts.errors import TealError
from contracts.fetch import FetchSpec
from serving.fetch.fetch import fetch

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    uri, root, *sources = sys.argv[1:]
    for number, source in enumerate(sources):
        output = Path(root) / str(number)
        output.mkdir(parents=True)
        try:
            found = fetch(FetchSpec(source, str(output), uri), lambda _stage, _detail: None)
        except TealError as error:
            print(json.dumps({"error": error.message, "code": error.code}))
        else:
            print(json.dumps({"path": str(found.path), "source": found.source, "lineage": found.lineage}))
